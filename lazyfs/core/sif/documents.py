"""The documents of a SIF file, such as the definition from which Apptainer built the image. They become the
config and the manifest of its image, and are restored from these when the image is exported as SIF."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from lazyfs.core.digest import Digest, sha256
from lazyfs.core.errors import FormatError
from lazyfs.core.oci import json_text
from lazyfs.core.oci.manifest import OCI_MANIFEST

DEFINITION, LABELS = "definition", "labels"
"""Names for the documents that a SIF file marks by a type and not by a name."""
CONFIG_NAME = "oci-config.json"
"""Name of the document with the image config, in SIF files that were made from an OCI image."""
INSPECT_NAME = "inspect-metadata.json"
"""Name of the document with the facts that Apptainer gathers when it builds an image."""
DEFINITION_KEY = "io.lazyfs.sif.definition"
"""Key of the manifest's annotation that holds the definition."""
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_RUN = "/.singularity.d/actions/run"


def image_config(
    squashfs: Digest, architecture: str, created: str, documents: Mapping[str, bytes], name: str
) -> bytes:
    """Returns the config of the image whose only layer is the squashfs. It is made from the OCI config among
    the documents, or is new if there is none. Labels that it lacks are added from other documents. `created`:
    the time in a new config. `name`: the name of the SIF file in errors. Raises FormatError."""
    attributes = _attributes(documents.get(INSPECT_NAME))
    if CONFIG_NAME in documents:
        config = _object(json_text.decode(documents[CONFIG_NAME], name, "an image config"))
    else:
        config = {"architecture": architecture, "os": "linux", "created": created}
        if attributes.get("runscript"):
            config["config"] = {"Cmd": [_RUN]}
    run = config["config"] = _object(config.get("config"))
    labels = _texts(attributes.get("labels")) | _labels(documents.get(LABELS)) | _texts(run.get("Labels"))
    if labels:
        run["Labels"] = labels
    config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{squashfs.hex()}"]}
    config.pop("history", None)
    return encoded(config)


def image_manifest(config: bytes, squashfs: Digest, size: int, definition: bytes) -> bytes:
    """Returns an OCI manifest for the image, with the definition as an annotation. `size`: bytes of the
    squashfs."""
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": _CONFIG_TYPE,
            "digest": f"sha256:{sha256(config).hex()}",
            "size": len(config),
        },
        "layers": [{"mediaType": _LAYER_TYPE, "digest": f"sha256:{squashfs.hex()}", "size": size}],
    }
    if definition:
        manifest["annotations"] = {DEFINITION_KEY: definition.decode(errors="replace")}
    return encoded(manifest)


def kept_definition(manifest: bytes) -> bytes:
    """Returns the definition that a published manifest has; empty if it has none."""
    try:
        document = json.loads(manifest)
        found = document["annotations"][DEFINITION_KEY]
    except (ValueError, KeyError, TypeError, RecursionError):
        return b""
    return found.encode("utf-8", "replace") if isinstance(found, str) else b""


def encoded(document: Any) -> bytes:
    """Returns a document as JSON; equal documents give equal bytes."""
    return msgspec.json.encode(document)


def _attributes(inspected: bytes | None) -> dict[str, Any]:
    if inspected is None:
        return {}
    try:
        document = json_text.decode(inspected, INSPECT_NAME, "JSON")
    except FormatError:
        return {}
    return _object(_object(_object(document).get("data")).get("attributes"))


def _labels(text: bytes | None) -> dict[str, str]:
    try:
        return _texts(json_text.decode(text, LABELS, "JSON")) if text else {}
    except FormatError:
        return {}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> dict[str, str]:
    return {key: text for key, text in _object(value).items() if isinstance(text, str)}
