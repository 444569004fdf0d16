"""From what the operator types to an image."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.reference import Reference, parse
from lazyfs.images.registry import credentials
from lazyfs.images.sources.docker_archive import DockerArchive
from lazyfs.images.sources.image import Image, KnownConfig, none_known
from lazyfs.images.sources.oci_layout import OciLayout

if TYPE_CHECKING:
    from lazyfs.images.registry.client import RegistryClient


@dataclass(frozen=True)
class ImageOptions:
    """How images are found."""

    platform: Platform
    asked: credentials.Asked = field(default_factory=credentials.Asked)
    plain_http: bool = False
    allow_public: bool = False
    pause: Callable[[float], None] = time.sleep


@contextmanager
def open_image(source: str, options: ImageOptions, known: KnownConfig = none_known) -> Iterator[Image]:
    """The image of `docker://REFERENCE`, `oci:DIR[:TAG]` or `docker-archive:FILE[:REFERENCE]`.

    Raises UsageError for anything else, and what the source raises.
    """
    kind, colon, rest = source.partition(":")
    if colon and kind == "docker":
        from lazyfs.images.sources.registry_image import RegistryImage

        with open_registry(source, options) as (client, reference):
            yield RegistryImage(client, reference, options.platform, known, allow_public=options.allow_public)
    elif colon and kind == "oci":
        yield OciLayout(rest, options.platform)
    elif colon and kind == "docker-archive":
        yield DockerArchive(rest)
    else:
        raise UsageError(
            f"source {source!r}: give docker://IMAGE, oci:DIR[:TAG], docker-archive:FILE, tar:FILE or dir:DIR"
        )


@contextmanager
def open_registry(source: str, options: ImageOptions) -> Iterator[tuple["RegistryClient", Reference]]:
    """A client for the repository of `docker://REFERENCE`, and the reference."""
    from lazyfs.images.registry.client import RegistryClient  # requests takes 50 ms

    if not source.startswith("docker://"):
        raise UsageError(f"source {source!r}: an image in a registry is docker://[REGISTRY/]REPOSITORY[:TAG]")
    reference = parse(source.removeprefix("docker://"))
    account = credentials.find(reference, options.asked, dict(os.environ))
    client = RegistryClient(reference, account, plain_http=options.plain_http, pause=options.pause)
    try:
        yield client, reference
    finally:
        client.close()
