"""Auth files and credential helpers in the formats of docker and podman."""

import base64
import json
import os
from pathlib import Path
from typing import Any


def auths(path: Path, document: Any) -> Path:
    """Writes an auth file: a `str` as it is, any other document as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def encoded(pair: str) -> str:
    """Returns the `auth` value of a `name:password` pair: its base64."""
    return base64.b64encode(pair.encode()).decode()


def helper(directory: Path, name: str, script: str) -> dict[str, str]:
    """Writes a credential helper into `directory`; returns an environment whose PATH begins there."""
    directory.mkdir(exist_ok=True)
    program = directory / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}
