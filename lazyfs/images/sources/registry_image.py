"""An image in a registry: `docker://[registry[:port]/]repository[:tag][@digest]`."""

from collections.abc import Generator, Iterator, Sequence

from lazyfs.core.errors import DigestMismatch, UsageError
from lazyfs.core.oci.manifest import MAX_CONFIG, Index, Platform, parse, parse_config
from lazyfs.core.oci.platform import choose
from lazyfs.core.oci.reference import Reference
from lazyfs.images.registry.client import RegistryClient
from lazyfs.images.registry.spool import read_ahead
from lazyfs.images.sources.image import KnownConfig, layers_of


class RegistryImage:
    """One image of a registry. See Image."""

    def __init__(
        self,
        client: RegistryClient,
        reference: Reference,
        platform: Platform,
        known: KnownConfig,
        *,
        allow_public: bool,
    ) -> None:
        """Fetches the manifest, and the config unless it is known. Raises UsageError for a private image
        unless `allow_public`."""
        self.name = f"docker://{reference}"
        self.place: str | None = reference.path
        self.client = client
        self.manifest = client.manifest(reference.wanted)
        document = parse(self.manifest, self.name)
        self.index = document if isinstance(document, Index) else None
        while isinstance(document, Index):
            entry = choose(document, platform, self.name)
            self.manifest = client.manifest(entry.digest)
            if len(self.manifest) != entry.size:
                raise DigestMismatch(f"{self.name}: manifest {entry.digest} is not of {entry.size} bytes")
            document = parse(self.manifest, self.name)
        if client.private and not allow_public:
            raise UsageError(
                f"{self.name} is private: everybody who can reach the repository could read it; publish it "
                "into one whose web server asks who comes, and say so with --allow-public"
            )
        self.descriptors = document.layers
        self.config_digest = document.config.hash
        config = known(reference.path, self.config_digest)
        self.config_bytes = client.small_blob(document.config, MAX_CONFIG) if config is None else config
        self.config = parse_config(self.config_bytes, self.name, len(document.layers))
        self.layers = layers_of(self.name, document, self.config)

    def read(self, wanted: Sequence[int]) -> Generator[tuple[int, Iterator[bytes]], None, None]:
        yield from read_ahead([(number, self.descriptors[number]) for number in wanted], self.client.blob)
