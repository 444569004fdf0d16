"""A session's reader thread gets arbitrary requests, over a socket pair in place of /dev/fuse."""

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs.fuse.direct import request_table
from lazyfs.fuse.direct import session as direct_session
from lazyfs.fuse.direct.channel import Channel
from lazyfs.fuse.direct.kept_answers import MISSING, KeptAnswers, key
from lazyfs.fuse.direct.operations import Operations, answered
from lazyfs.fuse.direct.pending_requests import PendingRequests
from lazyfs.fuse.direct.reader import RequestReader
from lazyfs.fuse.direct.request_table import BUFFER, NOWHERE, STATE, RequestTable
from lazyfs.fuse.direct.session import DirectSession
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.session import HeldMount, MountOptions
from lazyfs.fuse.wire import handshake
from lazyfs.fuse.wire import protocol as p
from lazyfs.vfs.missing_objects import Need
from tests.support.filesystems import FetchedObjects, filesystem_of
from tests.support.images import image, live

SILENT = (p.FORGET, p.BATCH_FORGET)
HEADER = p.IN_HEADER.size


class Answer(NamedTuple):
    error: int
    unique: int
    body: bytes


class Kernel:
    """The kernel's end of the socket pair: sends requests and receives answers."""

    def __init__(self, line: socket.socket, filesystem: Filesystem, top: int) -> None:
        self.line = line
        self.filesystem = filesystem
        self.image = top
        """Inode number of the image's top directory."""

    def send(self, opcode: int, number: int = 1, payload: bytes = b"", unique: int = 8) -> None:
        length = HEADER + len(payload)
        self.line.send(p.IN_HEADER.pack(length, opcode, unique, number, 0, 0, 0, 0, 0) + payload)

    def answer(self) -> Answer:
        data = self.line.recv(1 << 21)
        length, error, unique = p.OUT_HEADER.unpack_from(data)
        assert length == len(data)
        return Answer(-error, unique, data[16:])

    def ask(self, opcode: int, number: int = 1, payload: bytes = b"", unique: int = 8) -> Answer:
        self.send(opcode, number, payload, unique)
        return self.answer()

    def still_there(self) -> None:
        """Asserts that the next request is answered, and that no other answer came before."""
        assert self.ask(p.STATFS, unique=1 << 40).unique == 1 << 40


def example() -> tuple[Filesystem, int]:
    objects = FetchedObjects()
    big = bytes(300_000)
    top = image(objects, {"a": b"content", "big": big, "dir": {f"n{i}": b"x" for i in range(50)}, "l": "a"})
    root = live(objects, {"image": top})
    filesystem = filesystem_of(objects, root.ref)
    found = filesystem.tree.lookup(1, b"image")
    assert found is not None
    filesystem.tree.hold(found.number)
    return filesystem, found.number


@contextmanager
def serving() -> Iterator[Kernel]:
    """Runs a reader thread and a trio loop until the socket is closed; yields the kernel's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    ours.settimeout(20)
    filesystem, top = example()
    failures: list[BaseException] = []

    async def main() -> None:
        channel = Channel(theirs.fileno())
        async with trio.open_nursery() as nursery:
            table = RequestTable(RequestTable.make())
            pending = PendingRequests(filesystem, channel, table)
            pending.attach(nursery)
            operations = Operations(filesystem, KeptAnswers())
            reader = RequestReader(filesystem, channel, operations, pending, table, table.buffer(0))
            await trio.to_thread.run_sync(reader.run)

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as error:  # noqa: BLE001 - reported by the test's thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        with theirs:
            try:
                with ours:
                    yield Kernel(ours, filesystem, top)
            finally:
                thread.join(20)
        assert not thread.is_alive()
    finally:
        assert not failures, failures


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Kernel]:
    with serving() as found:
        yield found


opcodes = st.one_of(st.integers(0, 70), st.integers(0, 2**32 - 1))
numbers = st.one_of(st.integers(0, 20), st.integers(0, 2**64 - 1), st.builds(lambda s, i: s << 32 | i,
                    st.integers(0, 4), st.integers(0, 80)))  # fmt: skip


@settings(max_examples=600)
@given(opcode=opcodes, number=numbers, payload=st.binary(max_size=120))
def test_any_request_is_answered_once_and_ends_nothing(
    fuzzed: Kernel, opcode: int, number: int, payload: bytes
) -> None:
    fuzzed.send(opcode, number, payload, unique=8)
    # A forget has no answer unless it is malformed; then the answer is EIO.
    first = fuzzed.ask(p.STATFS, unique=16) if opcode in SILENT else fuzzed.answer()
    if first.unique == 16:
        return
    assert first.unique == 8
    if opcode in SILENT:
        assert first.error == errno.EIO
        assert fuzzed.answer().unique == 16
    if opcode not in p.OPCODE_NAMES or opcode in (p.INIT, p.OPEN, p.OPENDIR, p.ACCESS, p.STATX):
        assert first.error == errno.ENOSYS
    if opcode in p.MODIFYING:
        assert first.error == errno.EROFS
    fuzzed.still_there()


@settings(max_examples=200)
@given(junk=st.binary(min_size=1, max_size=200))
def test_junk_is_answered_or_dropped(fuzzed: Kernel, junk: bytes) -> None:
    fuzzed.line.send(junk)
    fuzzed.send(p.STATFS, unique=1 << 40)
    said = [fuzzed.answer()]
    if said[0].unique != 1 << 40:
        said.append(fuzzed.answer())
    assert said[-1].unique == 1 << 40
    if len(junk) < HEADER:
        assert len(said) == 1


def test_a_length_that_lies_is_eio(kernel: Kernel) -> None:
    kernel.line.send(p.IN_HEADER.pack(99, p.LOOKUP, 8, 1, 0, 0, 0, 0, 0) + b"image\0")
    assert kernel.answer() == Answer(errno.EIO, 8, b"")


@pytest.mark.parametrize("name", [b"", b"\0", b"image", b"a\0b\0"])
def test_a_lookup_of_no_name_is_eio(kernel: Kernel, name: bytes) -> None:
    assert kernel.ask(p.LOOKUP, kernel.image, name).error == errno.EIO


def test_a_lookup_from_packed_bytes_counts_as_one(kernel: Kernel) -> None:
    before = lookups(kernel)
    first = kernel.ask(p.LOOKUP, kernel.image, b"a\0")
    assert kernel.ask(p.LOOKUP, kernel.image, b"a\0") == first
    assert lookups(kernel) == before + 2
    number = struct.unpack_from("=Q", first.body)[0]
    kernel.send(p.FORGET, number, struct.pack("=Q", 2))
    kernel.still_there()
    assert lookups(kernel) == before


def lookups(kernel: Kernel) -> int:
    with kernel.filesystem.lock:
        return counted(kernel.filesystem)


def counted(filesystem: Filesystem) -> int:
    return sum(slot.count for slot in filesystem.tree.slots)


def test_what_one_successor_has_taken_back_no_later_one_takes_back_again() -> None:
    """Regression: a FORGET that the second reader thread had read when its daemon was replaced was counted by
    each successor until that thread read another request. The kernel's numbers then lost their slots."""
    filesystem, top = example()
    filesystem.tree.hold(top, 3)
    before = counted(filesystem)
    table = RequestTable.make()
    request = p.IN_HEADER.pack(HEADER + 8, p.FORGET, 8, top, 0, 0, 0, 0, 0) + struct.pack("=Q", 1)
    os.pwrite(table, request, STATE + BUFFER)
    init = handshake.init_reply(p.INIT_IN.pack(7, 38, 1 << 20, handshake.NEEDED))
    for _ in range(2):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            held = HeldMount(theirs.detach(), os.dup(table), init, answered())
            session = DirectSession(filesystem, "/nowhere", MountOptions("test"), taken=held)
            session.begin(lambda: None)
        session.close()
        assert counted(filesystem) == before - 1
    os.close(table)


def test_a_keeper_gets_the_slots_back_that_the_daemon_has_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: what a keeper read while its daemon was stopped took a slot for ever. After 32,768 such
    requests every call during a stop got EIO at once."""
    monkeypatch.setattr(request_table, "SLOTS", 4)
    monkeypatch.setattr(direct_session, "SLOTS", 4)
    table = RequestTable.make()
    keeper = RequestTable(os.dup(table), keeper=True)
    init = handshake.init_reply(p.INIT_IN.pack(7, 38, 1 << 20, handshake.NEEDED))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.settimeout(20)
        held = HeldMount(theirs.detach(), table, init, answered())
        session = DirectSession(example()[0], "/nowhere", MountOptions("test"), taken=held)
        for unique in range(2, 30, 3):
            for more in range(3):
                assert keeper.enter(p.STATFS, unique + more, 1, b"") != NOWHERE
            session.serve_kept()
            answers = {p.OUT_HEADER.unpack_from(ours.recv(1000))[2] for _ in range(3)}
            assert answers == {unique, unique + 1, unique + 2}
    session.close()
    keeper.close()


def listed(kernel: Kernel, opcode: int, number: int, room: int) -> list[tuple[bytes, int]]:
    """Lists a directory page by page; returns (name, inode number) of every entry."""
    found: list[tuple[bytes, int]] = []
    offset = 0
    while True:
        body = kernel.ask(opcode, number, p.READ_IN.pack(0, offset, room, 0, 0, 0, 0)).body
        assert len(body) <= room
        if not body:
            return found
        while body:
            if opcode == p.READDIRPLUS:
                body = body[p.ENTRY_OUT.size :]
            inode, offset, length, _ = p.DIRENT.unpack_from(body)
            found.append((body[24 : 24 + length], inode))
            body = body[24 + length + (-length & 7) :]


@pytest.mark.parametrize("room", [400, 512, 1000, 4096, 1 << 20])
@pytest.mark.parametrize("opcode", [p.READDIR, p.READDIRPLUS])
def test_a_directory_in_pages_of_any_size(kernel: Kernel, opcode: int, room: int) -> None:
    found = listed(kernel, opcode, kernel.image, room)
    assert [name for name, _ in found] == [b".", b"..", b"a", b"big", b"dir", b"l"]
    assert dict(found)[b"."] == kernel.image
    inner = dict(found)[b"dir"]
    assert [name for name, _ in listed(kernel, opcode, inner, room)][2:] == sorted(
        b"n%d" % i for i in range(50)
    )
    assert dict(listed(kernel, opcode, inner, room))[b".."] == kernel.image


def test_readdirplus_counts_one_lookup_a_line_and_none_for_the_dots(kernel: Kernel) -> None:
    before = lookups(kernel)
    found = listed(kernel, p.READDIRPLUS, kernel.image, 1000)
    assert lookups(kernel) == before + 4
    again = listed(kernel, p.READDIRPLUS, kernel.image, 1000)
    assert again == found
    assert lookups(kernel) == before + 8
    batch = b"".join(struct.pack("=QQ", number, 2) for _, number in found[2:])
    kernel.send(p.BATCH_FORGET, 0, struct.pack("=II", 4, 0) + batch)
    kernel.still_there()
    assert lookups(kernel) == before


def test_reads_are_cut_at_the_end(kernel: Kernel) -> None:
    number = struct.unpack_from("=Q", kernel.ask(p.LOOKUP, kernel.image, b"a\0").body)[0]
    assert kernel.ask(p.READ, number, p.READ_IN.pack(0, 3, 100, 0, 0, 0, 0)) == Answer(0, 8, b"tent")
    assert kernel.ask(p.READ, number, p.READ_IN.pack(0, 100, 9, 0, 0, 0, 0)) == Answer(0, 8, b"")
    assert kernel.ask(p.READ, kernel.image, p.READ_IN.pack(0, 0, 9, 0, 0, 0, 0)).error == errno.EISDIR


def test_an_interrupt_of_nothing_that_waits_is_asked_again(kernel: Kernel) -> None:
    assert kernel.ask(p.INTERRUPT, 0, struct.pack("=Q", 4711), unique=9) == Answer(errno.EAGAIN, 9, b"")


def test_a_bug_in_one_answer_is_eio_and_ends_nothing(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError

    def missing(*_: object) -> None:
        raise Need("test", ())

    monkeypatch.setattr(kernel.filesystem.tree, "getattr", bug)
    assert kernel.ask(p.GETATTR) == Answer(errno.EIO, 8, b"")
    monkeypatch.setattr(kernel.filesystem.tree, "getattr", missing)
    monkeypatch.setattr(kernel.filesystem, "complete", bug)
    assert kernel.ask(p.GETATTR) == Answer(errno.EIO, 8, b"")
    kernel.still_there()


def test_stale_packed_answers_are_not_given() -> None:
    """The session keeps answers to look-ups as packed bytes. If a directory's slot is freed and the directory
    is looked up again, it has another inode number, so the kept answer must not be used."""
    filesystem, _ = example()
    answers = Operations(filesystem, KeptAnswers())
    first = struct.unpack_from("=Q", answers.lookup(1, b"image"))[0]
    filesystem.tree.forget(first, 99)
    assert struct.unpack_from("=Q", answers.lookup(1, b"image"))[0] == first
    filesystem.tree.forget(first, 99)
    filesystem.tree.slots.sweep("test")
    assert first >> 32 not in filesystem.tree.slots
    second = struct.unpack_from("=Q", answers.lookup(1, b"image"))[0]
    assert second != first
    assert second >> 32 in filesystem.tree.slots


def test_what_is_packed_stays_in_its_bound() -> None:
    filesystem, top = example()
    packed = KeptAnswers(limit=20_000)
    answers = Operations(filesystem, packed)
    for number in range(1000):
        answers.lookup(top, b"no%d" % number)
        assert packed.size <= 20_000
    assert 0 < len(packed.names) <= 20_000 // 400


def test_a_changed_folder_is_packed_anew() -> None:
    filesystem, _ = example()
    packed = KeptAnswers()
    answers = Operations(filesystem, packed)
    answers.lookup(1, b"gone")
    assert packed.names[key(1, b"gone")][0] == MISSING
    packed.drop({1})
    assert key(1, b"gone") not in packed.names
