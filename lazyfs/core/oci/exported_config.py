"""The config of an image that is exported."""

import json
from collections.abc import Sequence
from typing import Any

from lazyfs.core.digest import Digest
from lazyfs.core.errors import FormatError
from lazyfs.core.oci import json_text


def exported_config(
    config: bytes | None, diff_ids: Sequence[Digest], architecture: str, *, merged: bool
) -> bytes:
    """Returns the config for layers with these diff_ids. The image's own config is returned byte for byte if
    it already lists these diff_ids. `config`: None for a tree without one. `architecture`: that of a new
    config. `merged`: the layers were merged into one, so that the history does not fit them. Raises
    FormatError."""
    texts = [f"sha256:{diff_id.hex()}" for diff_id in diff_ids]
    if config is None:
        document: Any = {"architecture": architecture, "os": "linux", "config": {}}
    else:
        document = json_text.decode(config, "config.json", "an image config")
        if not isinstance(document, dict):
            raise FormatError("config.json: not an image config: no JSON object")
        rootfs = document.get("rootfs")
        if isinstance(rootfs, dict) and rootfs.get("diff_ids") == texts:
            return config
    document["rootfs"] = {"type": "layers", "diff_ids": texts}
    if merged:
        document.pop("history", None)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
