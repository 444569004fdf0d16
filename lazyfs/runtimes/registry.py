"""The runtimes by name: those of lazyfs, and those that installed packages offer."""

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import cast

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.protocol import Runtime

GROUP = "lazyfs.runtimes"
"""The group of entry points by which installed packages offer runtimes. Each names a function that makes a
`protocol.Runtime`, given the path of the runtime's executable or None."""
BUILT_IN: Mapping[str, str] = {
    "bubblewrap": "lazyfs.runtimes.bubblewrap:Bubblewrap",
    "apptainer": "lazyfs.runtimes.apptainer:Apptainer",
    "charliecloud": "lazyfs.runtimes.charliecloud:Charliecloud",
    "crun": "lazyfs.runtimes.oci:crun",
    "runc": "lazyfs.runtimes.oci:runc",
    "podman": "lazyfs.runtimes.podman:Podman",
    "systemd-nspawn": "lazyfs.runtimes.nspawn:SystemdNspawn",
    "docker": "lazyfs.runtimes.docker:Docker",
    "udocker": "lazyfs.runtimes.udocker:Udocker",
    "shifter": "lazyfs.runtimes.shifter:Shifter",
}
"""Name of a runtime -> the function that makes it, as `MODULE:FUNCTION`, in the order of preference.
pyproject.toml has the same table for other programs; it is repeated here because reading the entry points of
an installation takes 30 ms."""
_OTHER_NAMES = {
    "singularity": "apptainer",
    "bwrap": "bubblewrap",
    "ch-run": "charliecloud",
    "nspawn": "systemd-nspawn",
}


def load(names: Iterable[str], programs: Mapping[str, str]) -> Iterator[Runtime]:
    """Yields the runtimes with these names; imports each only when it is asked for. `programs`: the paths of
    executables in the computing site's settings, by the runtime's name.

    Raises UsageError for a name that no runtime has, and for a package whose runtime cannot be loaded.
    """
    for name in names:
        yield _load(_OTHER_NAMES.get(name, name), programs)


def _load(name: str, programs: Mapping[str, str]) -> Runtime:
    place = BUILT_IN.get(name)
    if place is not None:
        module, _, attribute = place.partition(":")
        factory = getattr(import_module(module), attribute)
    else:
        factory = _offered(name)
    return cast(Runtime, factory(programs.get(name)))


def _offered(name: str) -> object:
    from importlib.metadata import entry_points

    offered = {point.name: point for point in entry_points(group=GROUP)}
    if name not in offered:
        known = ", ".join(dict.fromkeys((*BUILT_IN, *offered)))
        raise UsageError(f"runtime {name!r} is not known; choose one of: {known}")
    try:
        return offered[name].load()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"runtime {name!r} of {offered[name].value} cannot be loaded: {error}") from None
