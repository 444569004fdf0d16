"""Pulls an image of a registry, an OCI layout, an archive or a SIF file, unless the store of pulled images
has it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lazyfs.core.digest import sha256
from lazyfs.core.errors import FormatError, NotFound, TransportError
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

    def __call__(self, source: str) -> PulledImage:
        """Pulls `docker://NAME`, `oci:DIR[:TAG]`, `docker-archive:FILE` or `https://...`, unless the store
        has the image; returns the image.

        Raises UsageError for a text or account that cannot be used, BadData for a damaged image,
        TransportError, LazyfsError if the store cannot be written.
        """
        with self.store.one_pulls(source):
            if source.startswith(("https://", "http://")):
                return self._sif(source)
            return self._image(source)

    def _image(self, source: str) -> PulledImage:
        remote = source.startswith("docker://")
        kept = None if self.always or not remote else self.store.named(source)
        if kept is None:
            with open_image(source, self.options) as image:
                key = sha256(image.manifest).hex()
                kept = self.store.held(key) or self._fetched(source, image, key)
            if remote:
                self.store.name(source, key)
        return PulledImage(os.path.join(kept.directory, "root"), kept.directory)

    def _fetched(self, source: str, image: Image, key: str) -> KeptImage:
        from lazyfs.images.sources.registry_image import RegistryImage

        size = sum(layer.blob.size for layer in image.layers)
        self.say(f"{source} is not mounted here: pulling it, {size >> 20} MiB in {len(image.layers)} layers")
        for note in image.notes:
            self.say(f"{source}: {note}")

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
            self.say(f"{url} is not on this machine: pulling it")
            asked = self.options.asked.username is not None
            kept = self.store.add(lambda partial: self._download(url, partial), private=lambda: asked)
            self.store.name(url, os.path.basename(kept.directory))
        return PulledImage(os.path.join(kept.directory, SIF), None)

    def _download(self, url: str, partial: PartialImage) -> str:
        """Downloads a SIF file into the partial image; returns its SHA-256 in hex."""
        from lazyfs.images.registry.addresses import origin_of, shown
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
                raise NotFound(f"{shown(url)}: there is no such file")
            if reply.status != 200:
                raise TransportError(f"{shown(url)}: the server answered {reply.status}")
            stated = stated_length(reply.headers)
            body = Hashed(_received(reply, TransferRate(shown(url), time.monotonic)))
            with open(os.path.join(partial.directory, SIF), "wb") as file:
                for part in body:
                    partial.write(len(part))
                    file.write(part)
        if stated is not None and body.size != stated:
            raise TransportError(f"{shown(url)}: {body.size} bytes of {stated}")
        try:
            _check_sif(os.path.join(partial.directory, SIF), body.size)
        except FormatError as error:
            raise FormatError(f"{shown(url)}: {error}") from None
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
