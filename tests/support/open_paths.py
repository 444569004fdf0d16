"""Opens pytest's directories to other users, for tests that need this."""

import tempfile
from pathlib import Path


def open_to_all(place: Path) -> None:
    """Lets every user enter a temporary directory and its parents up to the system's temporary directory."""
    top = Path(tempfile.gettempdir()).resolve()
    for directory in (place, *place.parents):
        if directory.resolve() == top or not directory.is_relative_to(top):
            return
        directory.chmod(0o755)
