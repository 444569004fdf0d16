"""A network namespace for one test: no other test sees its servers, names and packet losses."""

import ctypes
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_CLONE_NEWNET = 0x40000000


@contextmanager
def private_network() -> Iterator[None]:
    """Moves this thread, and the processes and threads that it starts, into a new network namespace for the
    block. The namespace has a loopback interface with the addresses of all name servers in
    /etc/resolv.conf."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            for server in set(name_servers()) - {"127.0.0.1", "::1"}:
                subprocess.run(["ip", "address", "add", server, "dev", "lo"], check=True)
            yield
        finally:
            if libc.setns(before, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(before)


def name_servers() -> list[str]:
    """Returns the addresses of the name servers that programs ask."""
    lines = [line.split() for line in Path("/etc/resolv.conf").read_text().splitlines()]
    return [words[1] for words in lines if words[:1] == ["nameserver"]] or ["127.0.0.1"]


@contextmanager
def dropped(*rules: str) -> Iterator[None]:
    """Silently drops the packets that match these iptables rules (`-p tcp --dport 80`) for the block."""
    for rule in rules:
        subprocess.run(["iptables", "-w", "-I", "OUTPUT", *rule.split(), "-j", "DROP"], check=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-D", "OUTPUT", *rule.split(), "-j", "DROP"], check=True)


class NameServer:
    """A context manager that runs a name server. It answers every query for the address of a name below
    `lazyfs.test` with 127.0.0.1, after `delay` seconds."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.asked = 0
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets = []
        for address in name_servers():
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.bind((address, 53))
            self._sockets.append(sock)

    def __enter__(self) -> Self:
        for sock in self._sockets:
            self._start(self._serve, sock)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for sock in self._sockets:
            with suppress(OSError):  # wakes recvfrom(), and says that it is not connected
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        for sock in self._sockets:
            sock.close()

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, sock: socket.socket) -> None:
        while not self._stopping.is_set():
            with suppress(OSError):
                question, sender = sock.recvfrom(4096)
                if question:
                    self.asked += 1
                    self._start(self._answer, sock, question, sender)

    def _answer(self, sock: socket.socket, question: bytes, sender: Any) -> None:
        if self.delay and self._stopping.wait(self.delay):
            return
        with suppress(OSError):
            sock.sendto(answer(question), sender)


def answer(question: bytes) -> bytes:
    """Returns the answer to a DNS query. For a name below `lazyfs.test`: the address 127.0.0.1, and no
    records of other types. For any other name: NXDOMAIN. Records are valid for 1 s."""
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].lower())
        at += 1 + question[at]
    (kind,) = struct.unpack_from(">H", question, at + 1)
    asked = question[12 : at + 5]
    known = labels[-2:] == [b"lazyfs", b"test"]
    found = (
        b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + bytes([127, 0, 0, 1]) if known and kind == 1 else b""
    )
    flags = 0x8580 if known else 0x8583
    return question[:2] + struct.pack(">HHHHH", flags, 1, bool(found), 0, 0) + asked + found
