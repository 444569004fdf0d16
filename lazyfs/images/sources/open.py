"""Opens images from the operator's notation."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.reference import Reference, parse
from lazyfs.core.shown_address import shown_source
from lazyfs.images.registry import accounts
from lazyfs.images.sources.docker_archive import DockerArchive
from lazyfs.images.sources.image import Image, KnownConfig, none_known
from lazyfs.images.sources.oci_layout import layout_archive, layout_directory

if TYPE_CHECKING:
    from lazyfs.images.registry.client import RegistryClient


@dataclass(frozen=True)
class ImageOptions:
    """The options for finding images."""

    platform: Platform
    asked: accounts.Asked = field(default_factory=accounts.Asked)
    plain_http: bool = False
    allow_public: bool = False
    pause: Callable[[float], None] = time.sleep
    certs: tuple[str, ...] | None = None
    """The certs.d folders; None: those of podman and docker."""
    platform_asked: bool = False
    """True if the operator named the platform: an image for another platform is refused."""


def check_is_file(source: str) -> None:
    """Raises UsageError for a source whose file is an address: messages about missing files would repeat the
    address, with its account and signature."""
    kind, _, rest = source.partition(":")
    if "://" in rest:
        raise UsageError(
            f"source {shown_source(source)!r}: {kind}: takes a file of this machine; fetch it first"
        )


@contextmanager
def open_image(source: str, options: ImageOptions, known: KnownConfig = none_known) -> Iterator[Image]:
    """Yields the image of `docker://REFERENCE`, `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`,
    `docker-archive:FILE[:REFERENCE]` or `sif:FILE`.

    `known`: finds configs that need not be fetched. Raises UsageError for any other text, and the source's
    exceptions. Leaving the context raises UsageError if the image may not be made public (unless
    `allow_public`). Only then have all requests for the image been made, so commit after leaving the context.
    """
    kind, colon, rest = source.partition(":")
    check_is_file(source)
    asked = options.platform_asked
    if colon and kind == "docker":
        from lazyfs.images.sources.registry_image import RegistryImage

        with open_registry(source, options) as (client, reference):
            image = RegistryImage(client, reference, options.platform, known, asked=asked)
            yield image
            if not options.allow_public:
                image.check_public()
    elif colon and kind == "oci":
        yield layout_directory(rest, options.platform, asked=asked)
    elif colon and kind == "oci-archive":
        with closing(layout_archive(rest, options.platform, asked=asked)) as layout:
            yield layout
    elif colon and kind == "docker-archive":
        with closing(DockerArchive(rest, options.platform, asked=asked)) as archive:
            yield archive
    elif colon and kind == "sif":
        from lazyfs.images.sources.sif import SifFile

        with closing(SifFile(rest, options.platform, asked=asked)) as sif:
            yield sif
    else:
        raise UsageError(
            f"source {shown_source(source)!r}: give docker://IMAGE, oci:DIR[:NAME], oci-archive:FILE, "
            "docker-archive:FILE, sif:FILE, tar:FILE or dir:DIR"
        )


@contextmanager
def open_registry(source: str, options: ImageOptions) -> Iterator[tuple["RegistryClient", Reference]]:
    """Yields a client for the registry's repository that `docker://REFERENCE` names, and the image
    reference."""
    # importing urllib3 and others takes 50 ms, which other sources need not wait for
    from lazyfs.images.registry.certificates import Certificates, folders
    from lazyfs.images.registry.client import RegistryClient
    from lazyfs.images.registry.conversation import Conversation, registry_names
    from lazyfs.images.registry.wire import Wire

    if not source.startswith("docker://"):
        raise UsageError(
            f"source {shown_source(source)!r}: an image in a registry is docker://[REGISTRY/]REPOSITORY[:TAG]"
        )
    reference = parse(source.removeprefix("docker://"))
    environment = dict(os.environ)
    account = accounts.LazyAccount(reference, options.asked, environment)
    places = folders(environment) if options.certs is None else options.certs
    names = registry_names(reference.registry, options.plain_http)
    wire = Wire(Certificates(names, places, environment), plain_http=options.plain_http)
    conversation = Conversation(
        reference,
        wire,
        account.find,
        plain_http=options.plain_http,
        allow_private=options.allow_public,
        pause=options.pause,
    )
    try:
        yield RegistryClient(reference, conversation, pause=options.pause), reference
    finally:
        wire.close()
