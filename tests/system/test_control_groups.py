"""The control group of one start: it is made below the caller's group, and removed together with the groups
below it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs.system.control_groups import group_below_own, remove_group


@pytest.mark.root
def test_a_process_enters_a_group_that_goes_with_those_below_it() -> None:
    name = f"lazyfs-test-{os.getpid()}"
    path = group_below_own(name)
    assert path is not None
    os.mkdir(path)
    try:
        os.makedirs(f"{path}/payload/inner")
        program = (
            "import sys; from lazyfs.system.control_groups import enter_group; enter_group(sys.argv[1]); "
            "print(open('/proc/self/cgroup').read())"
        )
        command = [sys.executable, "-c", program, path]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert f"/{name}\n" in done.stdout
    finally:
        remove_group(path)
    assert not os.path.exists(path)
    assert f"/{name}" not in Path("/proc/self/cgroup").read_text()


def test_where_no_groups_are_mounted_there_is_none(tmp_path: Path) -> None:
    assert group_below_own("x", str(tmp_path)) is None


def test_a_group_that_is_gone_is_no_error(tmp_path: Path) -> None:
    remove_group(str(tmp_path / "none"))
