"""Pulls an image of a registry, an OCI layout, an archive or a SIF file, unless the store of pulled images
has it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lazyfs.core.digest import sha256
from lazyfs.core.errors import FormatError, NotFound, TransportError
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.platform import parse_platform
from lazyfs.core.shown_address import shown_address, shown_source
from lazyfs.core.sif.layout import HEADER, parse_header, parse_table
from lazyfs.images.registry import accounts
from lazyfs.images.registry.problems import BROKEN, Failed, explain
from lazyfs.images.sources.image import Image
from lazyfs.images.sources.open import ImageOptions, open_image
from lazyfs.images.streams import Hashed
from lazyfs.pulled.image_store import ImageStore, KeptImage, PartialImage
from lazyfs.pulled.unpack import unpack

if TYPE_CHECKING:
    from lazyfs.images.registry.transfer_rate import TransferRate
    from lazyfs.images.registry.wire import Reply

SIF = "image.sif"
_REGISTRY = "docker://"


def platform_of_this_machine() -> Platform:
    """Returns the platform of which images are pulled if nobody asks for another one."""
    return parse_platform(os.uname().machine)


class PulledImage(NamedTuple):
    """An image on this machine's disk."""

    root: str
    """The root filesystem, or the SIF file."""
    metadata: str | None
    """The directory with manifest.json and config.json; None for a SIF file."""


@dataclass(frozen=True, slots=True)
class Pull:
    """Pulls images into a store of pulled images. An image that it has returned stays in the store until this
    process ends."""

    store: ImageStore
    options: ImageOptions
    say: Callable[[str], None]
    """Called with a line for each image that is pulled and for each warning."""
    always: bool = False
    """True to ask the source which image a name means now, even if the store has an image of that name."""
    machine: Platform = field(default_factory=platform_of_this_machine)
    """The platform whose images have a name without a platform."""

    def __call__(self, source: str) -> PulledImage:
        """Pulls `docker://NAME`, `oci:DIR[:TAG]`, `docker-archive:FILE` or `https://...`, unless the store
        has the image; returns the image.

        Raises UsageError for a text or account that cannot be used, BadData for a damaged image,
        TransportError, LazyfsError if the store cannot be written.
        """
        with self.store.one_pulls(self._name(source)):
            if source.startswith(("https://", "http://")):
                return self._sif(source)
            return self._image(source)

    def _name(self, source: str) -> str:
        """Returns the name under which the store remembers the image of a source. A reference in a registry
        means another image for each platform."""
        if not source.startswith(_REGISTRY) or self.options.platform == self.machine:
            return source
        return f"{source} for {self.options.platform}"

    def _image(self, source: str) -> PulledImage:
        remote = source.startswith(_REGISTRY)
        kept = None if self.always or not remote else self.store.named(self._name(source))
        if kept is None:
            with open_image(source, self.options) as image:
                key = sha256(image.manifest).hex()
                kept = self.store.held(key) or self._fetched(source, image, key)
            if remote:
                self.store.name(self._name(source), key)
        return PulledImage(os.path.join(kept.directory, "root"), kept.directory)

    def _fetched(self, source: str, image: Image, key: str) -> KeptImage:
        from lazyfs.images.sources.registry_image import RegistryImage

        size = sum(layer.blob.size for layer in image.layers)
        shown = shown_source(source)
        self.say(f"{shown} is not mounted here: pulling it, {size >> 20} MiB in {len(image.layers)} layers")
        for note in image.notes:
            self.say(f"{shown}: {note}")

        def fill(partial: PartialImage) -> str:
            for name, content in (("manifest.json", image.manifest), ("config.json", image.config_bytes)):
                partial.write(len(content))
                with open(os.path.join(partial.directory, name), "wb") as file:
                    file.write(content)
            unpack(image, partial.directory, partial.write, self.say)
            return key

        return self.store.add(
            fill, private=lambda: isinstance(image, RegistryImage) and image.client.account_answered
        )

    def _sif(self, url: str) -> PulledImage:
        kept = None if self.always else self.store.named(url)
        if kept is None:
            self.say(f"{shown_address(url)} is not on this machine: pulling it")
            asked = self.options.asked.username is not None
            kept = self.store.add(lambda partial: self._download(url, partial), private=lambda: asked)
            self.store.name(url, os.path.basename(kept.directory))
        return PulledImage(os.path.join(kept.directory, SIF), None)

    def _download(self, url: str, partial: PartialImage) -> str:
        """Downloads a SIF file into the partial image; returns its SHA-256 in hex."""
        from lazyfs.images.registry.addresses import origin_of
        from lazyfs.images.registry.certificates import Certificates, folders
        from lazyfs.images.registry.replies import stated_length
        from lazyfs.images.registry.transfer_rate import TransferRate
        from lazyfs.images.registry.wire import Wire

        environment = dict(os.environ)
        origin = origin_of(url)
        places = folders(environment) if self.options.certs is None else self.options.certs
        certificates = Certificates((origin.host, f"{origin.host}:{origin.port}"), places, environment)
        headers = {}
        if self.options.asked.username is not None:
            headers["Authorization"] = accounts.given(self.options.asked).basic
        with (
            closing(Wire(certificates, plain_http=url.startswith("http://"))) as wire,
            wire.get(url, headers) as reply,
        ):
            if reply.status == 404:
                raise NotFound(f"{shown_address(url)}: there is no such file")
            if reply.status != 200:
                raise TransportError(f"{shown_address(url)}: the server answered {reply.status}")
            stated = stated_length(reply.headers)
            body = Hashed(_received(reply, TransferRate(shown_address(url), time.monotonic)))
            with open(os.path.join(partial.directory, SIF), "wb") as file:
                for part in body:
                    partial.write(len(part))
                    file.write(part)
        if stated is not None and body.size != stated:
            raise TransportError(f"{shown_address(url)}: {body.size} bytes of {stated}")
        try:
            _check_sif(os.path.join(partial.directory, SIF), body.size)
        except FormatError as error:
            raise FormatError(f"{shown_address(url)}: {error}") from None
        return body.digest.hex()


def _received(reply: "Reply", rate: "TransferRate") -> Iterator[bytes]:
    """Yields the body of an answer in parts. Raises Failed if it breaks off, TransportError if it trickles;
    a disk that cannot take the parts is not the server's fault."""
    try:
        yield from rate.watched(reply.parts())
    except BROKEN as error:
        raise Failed(explain(error, str(reply.origin))) from None


def _check_sif(path: str, size: int) -> None:
    """Raises FormatError for a file that is no SIF file, or ends before one of its objects does."""
    with open(path, "rb") as file:
        header = parse_header(file.read(HEADER.size), size)
        file.seek(header.table_offset)
        parse_table(file.read(header.table_size), size)
