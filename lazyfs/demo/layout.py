"""Writes an OCI image layout (image-spec 1.1, image-layout.md) from files of this machine."""

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, BinaryIO, Protocol, cast

import msgspec
from isal import igzip

_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_EMPTY_DIRECTORIES = {"dev": 0o755, "etc": 0o755, "proc": 0o755, "tmp": 0o1777}


def _gzip(target: "_Writer") -> IO[bytes]:
    """Returns a gzip stream without a time, so that equal layers have equal digests."""
    stream = igzip.IGzipFile("", "wb", 2, target, 0)  # type: ignore[no-untyped-call]
    return cast(IO[bytes], stream)


class _Writer(Protocol):
    def write(self, data: bytes, /) -> int: ...

    def flush(self) -> None: ...


class _Hashing:
    """Passes bytes on and keeps their digest and count."""

    def __init__(self, below: "_Writer") -> None:
        self._below = below
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._below.write(data)

    def flush(self) -> None:
        self._below.flush()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


@dataclass
class Layout:
    """A layout that is being written: `add_layer` for each layer, then `finish`, which completes the
    image."""

    directory: str
    layers: list[dict[str, object]] = field(default_factory=list)
    diff_ids: list[str] = field(default_factory=list)
    files: int = 0
    plain_bytes: int = 0
    """The bytes of all files, before compression."""
    compressed_bytes: int = 0

    _made: set[str] = field(default_factory=set)
    """Directories of all layers so far: a later layer does not change a lower one's modes."""

    def __post_init__(self) -> None:
        os.makedirs(os.path.join(self.directory, "blobs/sha256"))

    def add_layer(
        self,
        paths: Iterable[str],
        extra: dict[str, bytes] | None = None,
        path_in_image: Callable[[str], str] = lambda path: path,
    ) -> None:
        """Adds one layer of this machine's files, and of files that exist only in the image.

        `extra`: the contents of the files that exist only in the image, by path. `path_in_image`: returns the
        path in the image for a path on this machine. Every file belongs to root, so that every user makes the
        same image. Files that vanish meanwhile raise OSError.
        """
        temporary = os.path.join(self.directory, "layer")
        with open(temporary, "wb") as file:
            outer = _Hashing(file)
            with _gzip(outer) as packed:
                inner = _Hashing(packed)
                with tarfile.open(fileobj=inner, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
                    self._fill(
                        tar, {path: path_in_image(path).lstrip("/") for path in sorted(paths)}, extra or {}
                    )
        os.rename(temporary, self._blob(outer.digest))
        self.layers.append({"mediaType": _LAYER, "digest": outer.digest, "size": outer.size})
        self.diff_ids.append(inner.digest)
        self.compressed_bytes += outer.size

    def _fill(self, tar: tarfile.TarFile, paths: dict[str, str], extra: dict[str, bytes]) -> None:
        if not self.layers:
            for name, mode in _EMPTY_DIRECTORIES.items():
                self._made.add(name)
                _directory(tar, name, mode)
        for path, name in paths.items():
            _parents(tar, name, self._made)
            entry = tar.gettarinfo(path, name)
            _owned_by_root(entry)
            entry.mode = stat.S_IMODE(entry.mode) & 0o755
            if entry.islnk():  # the same file under two names: a copy keeps the layers independent
                entry.type, entry.size = tarfile.REGTYPE, os.stat(path).st_size
            if entry.isreg():
                with open(path, "rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)
            self.files += 1
            self.plain_bytes += entry.size
        for name, data in extra.items():
            _parents(tar, name.lstrip("/"), self._made)
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
            self.files += 1
            self.plain_bytes += len(data)

    def finish(self, tag: str, settings: dict[str, object]) -> None:
        """Writes the image's configuration, manifest and index. `settings`: the value of `config` in the
        configuration, such as the image's command and environment."""
        config = self._write(
            {
                "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(
                    os.uname().machine, os.uname().machine
                ),
                "os": "linux",
                "config": settings,
                "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
            }
        )
        manifest = self._write(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {"mediaType": _CONFIG, **config},
                "layers": self.layers,
            }
        )
        named = {
            "mediaType": _MANIFEST,
            **manifest,
            "annotations": {"org.opencontainers.image.ref.name": tag},
        }
        with open(os.path.join(self.directory, "index.json"), "wb") as file:
            file.write(msgspec.json.encode({"schemaVersion": 2, "manifests": [named]}))
        with open(os.path.join(self.directory, "oci-layout"), "w") as file:
            file.write('{"imageLayoutVersion": "1.0.0"}')

    def layer_files(self) -> list[str]:
        """Returns the files of the compressed layers, the lowest first."""
        return [self._blob(str(layer["digest"])) for layer in self.layers]

    def _blob(self, digest: str) -> str:
        return os.path.join(self.directory, "blobs/sha256", digest.removeprefix("sha256:"))

    def _write(self, document: dict[str, object]) -> dict[str, object]:
        data = msgspec.json.encode(document)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        with open(self._blob(digest), "wb") as file:
            file.write(data)
        return {"digest": digest, "size": len(data)}


def _directory(tar: tarfile.TarFile, name: str, mode: int = 0o755) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def _parents(tar: tarfile.TarFile, name: str, made: set[str]) -> None:
    parts = name.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        parent = "/".join(parts[:depth])
        if parent not in made:
            made.add(parent)
            _directory(tar, parent)


def _owned_by_root(entry: tarfile.TarInfo) -> None:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""


def unpack(layers: Iterable[BinaryIO], directory: str) -> None:
    """Unpacks all layers of an image into a directory, as a pull does. Works for layouts written by this
    module, since these have no whiteouts. `layers`: the compressed layers, the lowest first."""
    for layer in layers:
        with gzip.open(layer, "rb") as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
            # written here a moment ago; Python 3.11.2 has no filters, 3.14 filters by default
            tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
            tar.extractall(directory)  # noqa: S202
