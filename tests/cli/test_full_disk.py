"""What a command prints cannot be written: it says so in one line, and its exit code is not Python's."""

import subprocess

import pytest

from tests.support.cli import LAZYFS


@pytest.mark.parametrize("arguments", [["--help"], ["run", "/", "--explain", "--", "ls"]])
def test_output_to_a_full_disk(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        command = [*LAZYFS, *arguments]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "lazyfs: what was printed is lost: No space left on device\n"


def test_an_error_that_cannot_be_told_keeps_its_code() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*LAZYFS, "run", "/none", "--", "ls"], stderr=full, timeout=100, check=False)
    assert done.returncode == 2
