"""The choice of the one filesystem of a SIF file that is its image."""

from collections.abc import Sequence

from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.platform import runs
from lazyfs.core.sif.layout import Descriptor, Filesystem, Partition, PartitionUse


def system_partition(table: Sequence[Descriptor], wanted: Platform) -> Descriptor:
    """Returns the descriptor of the squashfs that is the image: the primary one, or the only system
    partition; of several, the one for the wanted platform.

    Raises FormatError if the file has none that can be read, UsageError if the platform does not decide.
    """
    systems = [(one, one.partition) for one in table if one.partition and one.partition.use in _SYSTEM]
    if not systems:
        raise FormatError("no system partition: only SIF files with a squashfs root filesystem are read")
    primary = [pair for pair in systems if pair[1].use == PartitionUse.PRIMARY] or systems
    chosen = primary if len(primary) == 1 else _for_platform(primary, wanted)
    descriptor, partition = chosen[0]
    _check_filesystem(partition)
    return descriptor


def left_out(table: Sequence[Descriptor], chosen: Descriptor) -> list[str]:
    """Returns a warning for each other filesystem of the file, which is not published."""
    return [
        f"partition {one.number} ({_USES.get(one.partition.use, 'of unknown use')}) is left out"
        for one in table
        if one.partition and one.number != chosen.number
    ]


_SYSTEM = (PartitionUse.SYSTEM, PartitionUse.PRIMARY)
_USES: dict[int, str] = {
    PartitionUse.SYSTEM: "another system",
    PartitionUse.PRIMARY: "another primary system",
    PartitionUse.DATA: "data",
    PartitionUse.OVERLAY: "an overlay",
}


def _for_platform(
    systems: list[tuple[Descriptor, Partition]], wanted: Platform
) -> list[tuple[Descriptor, Partition]]:
    fitting = [pair for pair in systems if runs(Platform("linux", pair[1].architecture), wanted)]
    if len(fitting) == 1:
        return fitting
    there = ", ".join(sorted({pair[1].architecture or "unknown" for pair in systems}))
    raise UsageError(
        f"{len(systems)} system partitions, for {there}: {len(fitting)} of them fit {wanted}; "
        "choose with --platform"
    )


def _check_filesystem(partition: Partition) -> None:
    if partition.filesystem == Filesystem.ENCRYPTED_SQUASHFS:
        raise FormatError("its filesystem is encrypted: build it again without encryption to publish it")
    if partition.filesystem == Filesystem.EXT3:
        raise FormatError("its filesystem is ext3: build it again with squashfs (apptainer build NEW OLD)")
    if partition.filesystem != Filesystem.SQUASHFS:
        raise FormatError(f"its filesystem is of kind {partition.filesystem}, not squashfs")
