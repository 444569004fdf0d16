"""Files of accounts and credential helpers, as docker and podman have them."""

import base64
import json
import os
from pathlib import Path
from typing import Any


def auths(path: Path, document: Any) -> Path:
    """Writes an auth file: JSON of the document, or a text as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def encoded(pair: str) -> str:
    """The `auth` of a `name:password`."""
    return base64.b64encode(pair.encode()).decode()


def helper(directory: Path, name: str, script: str) -> dict[str, str]:
    """Puts a helper on a PATH of its own; returns the environment."""
    directory.mkdir(exist_ok=True)
    program = directory / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}
