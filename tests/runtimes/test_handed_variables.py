"""Variables that are handed to a program by a descriptor: any value, and none in a message."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.handed_variables import encode, read
from lazyfs.runtimes.supervise import unnamed_file
from tests.support.busybox import busybox_root
from tests.support.runtimes import run

VARIABLES = {
    "EMPTY": "",
    "LINES": "one\ntwo\n",
    "SUM": "1+1=2",
    "BYTES": os.fsdecode(b"\xff"),
    "LONG": "x" * 100_000,
}


@pytest.fixture
def descriptor() -> Iterator[int]:
    with unnamed_file(b"A=1\0SECRET hunter2\0") as number:
        yield number


@pytest.mark.parametrize("variables", [{}, VARIABLES])
def test_what_is_encoded_is_read(variables: dict[str, str]) -> None:
    with unnamed_file(encode(variables)) as number:
        assert read(number) == variables


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"TOKEN": "hunter2\0LD_PRELOAD=x"}, "variable 'TOKEN': its value has a NUL in it"),
        ({"TOKEN": "hunter2\ud800"}, "variable 'TOKEN': it cannot be handed to a program"),
        ({"A=B": "hunter2"}, "'A=B' cannot be the name of a variable"),
        ({"": "hunter2"}, "'' cannot be the name of a variable"),
    ],
)
def test_what_would_become_another_variable_is_refused(variables: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        encode(variables)
    assert str(refused.value) == says


def test_what_is_no_list_of_variables_is_refused(descriptor: int, tmp_path: Path) -> None:
    says = {
        descriptor: f"--env-fd {descriptor}: entry 2 is not NAME=VALUE; each ends with a NUL (env -0)",
        999_999: "--env-fd 999999: Bad file descriptor",
        1 << 80: f"--env-fd {1 << 80}: no descriptor has this number",
    }
    for number, said in says.items():
        with pytest.raises(UsageError) as refused:
            read(number)
        assert str(refused.value) == said


def test_a_start_takes_them_and_env_is_stronger(tmp_path: Path) -> None:
    """The caller's own value of A does not count: NAME alone takes what was handed over."""
    image = busybox_root(tmp_path / "image", "sh")
    options = ["--env-fd", "0", "--env", "B=option", "--env", "A"]
    done = run(
        [image, *options, "--", "sh", "-c", 'echo "$A,$B,$C"'],
        given="A=1\0B=2\0C=three words\0",
        environment={"A": "callers"},
    )
    assert (done.stdout, done.stderr) == ("1,option,three words\n", "")
