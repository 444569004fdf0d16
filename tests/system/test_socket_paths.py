"""Control sockets work at paths that are too long for the kernel's address of a socket."""

import socket
from pathlib import Path

import pytest

from lazyfs.system.socket_paths import LONGEST, address_of


@pytest.mark.parametrize("length", [20, LONGEST, LONGEST + 1, 300])
def test_a_socket_can_be_bound_and_reached_at_a_path_of_any_length(length: int, tmp_path: Path) -> None:
    directory = tmp_path
    while len(str(directory)) + 10 < length:
        directory = directory / ("d" * max(1, min(100, length - len(str(directory)) - 8)))
    directory.mkdir(parents=True, exist_ok=True)
    path = str(directory / "a.sock")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as caller:
        with address_of(path) as address:
            listening.bind(address)
        listening.listen()
        assert Path(path).is_socket()
        with address_of(path) as address:
            caller.connect(address)
        listening.accept()[0].close()


def test_a_directory_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), address_of(str(tmp_path / ("x" * 200) / "a.sock")):
        pass
