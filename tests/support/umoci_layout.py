"""OCI layouts made by umoci."""

import subprocess
from pathlib import Path


def layout_of(tree: Path, directory: Path) -> Path:
    """Makes a one-layer OCI layout tagged `latest` with umoci."""
    layout = directory / "layout"
    for command in (
        ["init", "--layout", str(layout)],
        ["new", "--image", f"{layout}:latest"],
        ["insert", "--image", f"{layout}:latest", str(tree), "/opt"],
    ):
        subprocess.run(["umoci", "--log=error", *command], check=True)
    return layout
