"""Another run of pytest on the machine does not close this run's directories to other users."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.open_paths import open_to_all


def test_a_second_run_does_not_close_the_directories_of_this_one(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/test_other.py").write_text("def test_it(tmp_path): assert tmp_path.exists()\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_other.py"]
    subprocess.run(command, cwd=tmp_path / "other", env=environment, check=True, capture_output=True)
    assert [str(place) for place in (tmp_path, *tmp_path.parents) if not place.stat().st_mode & 0o001] == []
