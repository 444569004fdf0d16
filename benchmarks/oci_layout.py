"""OCI layouts that benchmarks make: a directory of images that share blobs."""

import gzip
import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
TAG_FIELD: Final = "org.opencontainers.image.ref.name"
"""The annotation of an index's entry that holds the image's tag."""


class Layer(NamedTuple):
    """A compressed layer in a layout."""

    digest: str
    size: int
    diff_id: str


class Layout:
    """An OCI layout that is being written. After each added image, the layout is complete."""

    def __init__(self, directory: Path, level: int = 6) -> None:
        """`directory`: made here. `level`: of gzip, for the layers."""
        self.path = directory
        self._level = level
        self._blobs = directory / "blobs/sha256"
        self._blobs.mkdir(parents=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self._manifests: list[dict[str, Any]] = []

    def blob(self, digest: str) -> Path:
        """Returns the path of a blob."""
        return self._blobs / digest.removeprefix("sha256:")

    def link(self, blob: Path) -> None:
        """Adds a blob of another directory, as a hardlink, unless this layout has it. The file's name is the
        digest in hex."""
        if not (self._blobs / blob.name).exists():
            (self._blobs / blob.name).hardlink_to(blob)

    def layer(self, tar: IO[bytes]) -> Layer:
        """Compresses a tar archive into a layer of the layout."""
        plain = hashlib.sha256()
        made = self.path / "layer"
        with gzip.open(made, "wb", self._level) as compressed:
            while part := tar.read(1 << 20):
                plain.update(part)
                compressed.write(part)
        with made.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        size = made.stat().st_size
        made.rename(self.blob(digest))
        return Layer(digest, size, f"sha256:{plain.hexdigest()}")

    def layer_of(self, tree: Path, *options: str) -> Layer:
        """Makes a layer of a tree with GNU tar. `options`: further options, which choose the entries; without
        them, everything is packed, in the order of names, with extended attributes. Raises
        CalledProcessError."""
        chosen = options or ("--sort=name", "--xattrs", ".")
        command = ["tar", "--format=posix", "-C", str(tree), "-c", *chosen]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as tar:
            assert tar.stdout is not None
            layer = self.layer(tar.stdout)
        if tar.returncode:
            raise subprocess.CalledProcessError(tar.returncode, command)
        return layer

    def add(self, tag: str, layers: Sequence[Layer], settings: dict[str, object]) -> None:
        """Adds an image of these layers, the lowest first. `settings`: the value of `config` in its
        configuration, such as its command."""
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._written(json.dumps(config).encode(), _CONFIG),
            "layers": [{"mediaType": _LAYER, "digest": layer.digest, "size": layer.size} for layer in layers],
        }
        self.add_manifest(tag, json.dumps(manifest).encode())

    def add_manifest(self, tag: str, manifest: bytes) -> None:
        """Adds an image whose other blobs the layout has."""
        self._manifests.append(self._written(manifest, _MANIFEST) | {"annotations": {TAG_FIELD: tag}})
        index = {"schemaVersion": 2, "manifests": self._manifests}
        (self.path / "index.json").write_text(json.dumps(index))

    def _written(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blob(digest).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}
