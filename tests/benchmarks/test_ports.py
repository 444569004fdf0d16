"""No other process gets a reserved port."""

import errno
import socket

import pytest

from benchmarks.ports import free_port, free_ports


def test_a_server_can_come_and_go_and_nobody_else_gets_the_port() -> None:
    port = free_port()
    for _ in range(2):
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
        with socket.socket() as other, pytest.raises(OSError, match="already in use"):
            other.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            pass


def test_no_port_is_given_out_twice() -> None:
    assert len(set(free_ports(50))) == 50
