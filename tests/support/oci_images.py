"""Small images built by hand: layers as tar bytes, and OCI layouts and docker-archives made of them."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import zstandard

TAG = "v1"


def entry(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any) -> tuple[Any, bytes]:
    """Returns one tar entry: (header, data). `fields` are attributes of TarInfo; `pax` is a dict of extended
    header records."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    info.pax_headers = fields.pop("pax", {})
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def layer(*entries: tuple[Any, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    """Returns an uncompressed layer of these entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format, errors="surrogateescape") as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def compress(data: bytes, how: str) -> bytes:
    """Compresses a layer: `how` is `none`, `gzip` or `zstd`."""
    if how == "gzip":
        return gzip.compress(data, 1, mtime=0)
    return zstandard.compress(data) if how == "zstd" else data


class Built:
    """An image's blobs by digest, with its manifest."""

    def __init__(
        self,
        layers: list[bytes],
        how: str = "gzip",
        config: dict[str, Any] | None = None,
        **top: Any,
    ) -> None:
        self.blobs: dict[str, bytes] = {}
        self.diff_ids = ["sha256:" + hashlib.sha256(data).hexdigest() for data in layers]
        stored = [compress(data, how) for data in layers]
        kind = "application/vnd.oci.image.layer.v1.tar" + ("" if how == "none" else f"+{how}")
        self.layer_descriptors = [self.blob(data, kind) for data in stored]
        document = {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-05-06T07:08:09Z",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
            **top,
        }
        self.config = self.blob(json.dumps(document).encode(), "application/vnd.oci.image.config.v1+json")
        self.manifest = self.blob(
            json.dumps(
                {
                    "schemaVersion": 2,
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": self.config,
                    "layers": self.layer_descriptors,
                }
            ).encode(),
            "application/vnd.oci.image.manifest.v1+json",
        )

    def blob(self, data: bytes, kind: str) -> dict[str, Any]:
        """Stores a blob of media type `kind`; returns its descriptor."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    @property
    def flat(self) -> str:
        """Returns the image's path in the published tree."""
        digits = self.config["digest"].removeprefix("sha256:")
        return f".flat/{digits[:2]}/{digits}"

    def write_layout(self, directory: Path, tag: str = TAG) -> Path:
        """Writes an OCI image layout with this one image."""
        blobs = directory / "blobs/sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        for digest, data in self.blobs.items():
            (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        named = {**self.manifest, "annotations": {"org.opencontainers.image.ref.name": tag}}
        (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
        return directory

    def write_archive(self, path: Path, layers: list[bytes], tags: list[str]) -> Path:
        """Writes a docker-archive in the old format, with its manifest last."""
        config = self.config["digest"].removeprefix("sha256:") + ".json"
        names = [f"{number:064x}/layer.tar" for number in range(len(layers))]
        files = [entry(name, data=data) for name, data in zip(names, layers, strict=True)]
        files.append(entry(config, data=self.blobs[self.config["digest"]]))
        manifest = [{"Config": config, "RepoTags": tags, "Layers": names}]
        files.append(entry("manifest.json", data=json.dumps(manifest).encode()))
        path.write_bytes(layer(*files))
        return path
