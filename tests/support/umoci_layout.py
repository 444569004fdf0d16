"""OCI layouts made by umoci."""

import subprocess
from pathlib import Path


def layout_of(tree: Path, directory: Path) -> Path:
    """Makes with umoci an OCI layout in `directory`. Its only image, tagged `latest`, has one layer with the
    tree at /opt. Returns the path of the layout."""
    layout = directory / "layout"
    for command in (
        ["init", "--layout", str(layout)],
        ["new", "--image", f"{layout}:latest"],
        ["insert", "--image", f"{layout}:latest", str(tree), "/opt"],
    ):
        subprocess.run(["umoci", "--log=error", *command], check=True)
    return layout
