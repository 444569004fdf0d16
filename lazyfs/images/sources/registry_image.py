"""An image in a registry: `docker://[registry[:port]/]repository[:tag][@digest]`."""

from collections.abc import Generator, Iterator, Sequence

from lazyfs.core.errors import DigestMismatch, FormatError
from lazyfs.core.oci.manifest import MAX_CONFIG, Index, Platform, parse, parse_config
from lazyfs.core.oci.platform import MAX_NESTING, choose, runs
from lazyfs.core.oci.reference import Reference
from lazyfs.core.oci.remarks import check_platform, remarks
from lazyfs.images.registry.client import RegistryClient
from lazyfs.images.registry.spool import read_ahead
from lazyfs.images.sources.image import KnownConfig, layers_of


class RegistryImage:
    """One image of a registry. Implements `Image`."""

    def __init__(
        self,
        client: RegistryClient,
        reference: Reference,
        platform: Platform,
        known: KnownConfig,
        *,
        asked: bool,
    ) -> None:
        """Fetches the manifest, and the config unless it is known. `asked`: True if the operator named the
        platform. Raises UsageError, BadData or TransportError."""
        self.name = f"docker://{reference}"
        self.place: str | None = reference.path
        self.client = client
        self.manifest = client.manifest(reference.wanted)
        document = parse(self.manifest, self.name)
        self.index = document if isinstance(document, Index) else None
        listed = False
        for _ in range(MAX_NESTING):
            if not isinstance(document, Index):
                break
            entry = choose(document, platform, self.name)
            listed = entry.platform is not None and runs(entry.platform, platform)
            self.manifest = client.manifest(entry.digest)
            if len(self.manifest) != entry.size:
                raise DigestMismatch(f"{self.name}: manifest {entry.digest} is not of {entry.size} bytes")
            document = parse(self.manifest, self.name)
        else:
            raise FormatError(f"{self.name}: over {MAX_NESTING} indexes in one another")
        self.descriptors = document.layers
        self._config = document.config
        self.config_digest = document.config.hash
        config = known(reference.path, self.config_digest)
        self.config_bytes = client.small_blob(document.config, MAX_CONFIG) if config is None else config
        self.config = parse_config(self.config_bytes, self.name, len(document.layers))
        self.notes = (
            *check_platform(self.config, platform, asked=asked, listed=listed, name=self.name),
            *remarks(self.config),
        )
        self.layers = layers_of(self.name, document, self.config)

    def check_public(self) -> None:
        """Raises UsageError if the requests so far leave it open whether the image is public. May read a part
        of the config to find out."""
        self.client.check_public(self._config)

    def read(self, wanted: Sequence[int]) -> Generator[tuple[int, Iterator[bytes]], None, None]:
        yield from read_ahead([(number, self.descriptors[number]) for number in wanted], self.client.blob)
