"""The table of requests: another process finds in it exactly the requests that have not been answered."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.errors import UsageError
from lazyfs.fuse.direct.request_table import (
    MOST_REQUEST,
    MOST_STATE,
    NOWHERE,
    SLOT,
    SLOTS,
    STATE,
    RequestTable,
    keep_state,
    lasting_words,
    read_state,
)
from lazyfs.fuse.wire import handshake
from lazyfs.fuse.wire import protocol as p

LOOKUP = p.LOOKUP
payloads = st.binary(max_size=SLOT)


def uniques(table: RequestTable) -> set[int]:
    return {p.IN_HEADER.unpack_from(kept.request)[2] for kept in table.kept_in_slots()}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), payloads), max_size=40))
def test_another_process_finds_what_was_entered_and_not_left(
    steps: list[tuple[bool, int, bytes]],
) -> None:
    """Each step enters a request, or removes the one that was entered n-th last. The keeper and the daemon
    both enter requests."""
    fd = RequestTable.make()
    daemon, keeper = RequestTable(os.dup(fd)), RequestTable(os.dup(fd), keeper=True)
    here: dict[int, tuple[int, bytes]] = {}
    for number, (enters, back, payload) in enumerate(steps):
        side = keeper if number % 3 == 0 else daemon
        if enters:
            slot = side.enter(LOOKUP, number, 1, payload)
            fits = len(payload) <= MOST_REQUEST - p.IN_HEADER.size
            assert (slot != NOWHERE) == fits
            assert slot == NOWHERE or (slot >= SLOTS) == (side is keeper)
            if fits:
                here[number] = (slot, payload)
        elif back < len(here):
            left = sorted(here)[-1 - back]
            (keeper if here[left][0] >= SLOTS else daemon).leave(here.pop(left)[0])
        successor = RequestTable(os.dup(fd))
        found = {
            p.IN_HEADER.unpack_from(kept.request)[2]: (kept.slot, kept.request[p.IN_HEADER.size :])
            for kept in successor.kept_in_slots()
        }
        successor.close()
        assert found == here
    for table in (daemon, keeper):
        table.close()
    os.close(fd)


def test_a_successor_gives_no_occupied_slot_away() -> None:
    fd = RequestTable.make()
    first = RequestTable(os.dup(fd))
    slots = [first.enter(LOOKUP, unique, 1, b"name\0") for unique in range(1, 6)]
    first.leave(slots[1])
    second = RequestTable(os.dup(fd))
    assert second.enter(LOOKUP, 9, 1, b"name\0") == slots[1]
    assert second.enter(LOOKUP, 10, 1, b"name\0") not in slots
    assert uniques(second) == {1, 3, 4, 5, 9, 10}
    for table in (first, second):
        table.close()
    os.close(fd)


def test_a_daemon_that_was_stopped_settles_no_later_request_of_the_keeper() -> None:
    """The daemon is stopped after it has found a request of the keeper's and before it settles it. Meanwhile
    the keeper refuses the request, and puts another one into the slot."""
    fd = RequestTable.make()
    daemon, keeper = RequestTable(os.dup(fd)), RequestTable(os.dup(fd), keeper=True)
    slot = keeper.enter(LOOKUP, 1, 1, b"name\0")
    (found,) = daemon.kept_in_slots()
    keeper.settle(found)
    assert keeper.enter(LOOKUP, 2, 1, b"name\0") == slot
    daemon.settle(found)
    assert uniques(daemon) == {2}
    for table in (daemon, keeper):
        table.close()
    os.close(fd)


def test_requests_that_several_threads_enter_at_once_are_all_found() -> None:
    """Regression: two reader threads that looked for a slot at the same moment got an error, and so a program
    EIO; or the table's end was set back, and a successor would not have found the last request."""
    fd = RequestTable.make()
    table = RequestTable(os.dup(fd))
    held = SLOTS // 4
    for unique in range(held):
        table.enter(LOOKUP, unique, 1, b"")
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for entered in range(held, held + 512, 64):
                successor = RequestTable(os.dup(fd))  # which has to pass the slots that are held
                list(
                    pool.map(
                        successor.enter, [LOOKUP] * 64, range(entered, entered + 64), [1] * 64, [b""] * 64
                    )
                )
                assert uniques(successor) == set(range(entered + 64))
                successor.close()
    finally:
        sys.setswitchinterval(before)
    table.close()
    os.close(fd)


def test_a_full_table_gives_no_slot() -> None:
    table = RequestTable(RequestTable.make())
    taken = [table.enter(LOOKUP, unique, 1, b"") for unique in range(SLOTS)]
    assert len(set(taken)) == SLOTS
    assert table.enter(LOOKUP, SLOTS, 1, b"") == NOWHERE
    table.leave(NOWHERE)
    table.leave(taken[7])
    assert table.enter(LOOKUP, SLOTS, 1, b"") == taken[7]
    table.close()


def test_the_last_request_of_each_reader_is_found() -> None:
    table = RequestTable(RequestTable.make())
    request = p.IN_HEADER.pack(p.IN_HEADER.size + 5, LOOKUP, 4, 1, 0, 0, 0, 0, 0) + b"name\0"
    table.buffer(1)[: len(request)] = request
    table.keepers_buffer()[: len(request)] = request
    assert [kept.request for kept in table.kept_in_buffers()] == [request, request]
    table.buffer(1)[:4] = bytes(4)
    assert len(table.kept_in_buffers()) == 1
    table.close()


def test_the_words_lie_beside_the_largest_state() -> None:
    fd = RequestTable.make()
    assert [word[0] for word in lasting_words(fd)] == [0, 0, 0, 0]
    for number, word in enumerate(lasting_words(fd), 1):
        word[0] = number
    keep_state(fd, b"s" * MOST_STATE)
    assert [word[0] for word in lasting_words(fd)] == [1, 2, 3, 4]
    assert read_state(fd) == b"s" * MOST_STATE
    os.close(fd)


@given(st.lists(st.binary(max_size=3000), max_size=5))
def test_the_state_that_was_kept_last_is_read(states: list[bytes]) -> None:
    fd = RequestTable.make()
    assert read_state(fd) == b""
    for state in states:
        keep_state(fd, state)
        assert read_state(fd) == state
    with pytest.raises(ValueError, match="a state of"):
        keep_state(fd, bytes(STATE))
    assert read_state(fd) == (states[-1] if states else b"")
    os.close(fd)


def test_a_promise_to_the_kernel_that_cannot_be_kept_is_refused() -> None:
    request = p.INIT_IN.pack(7, 38, 1 << 20, handshake.NEEDED | p.CACHE_SYMLINKS)
    reply = handshake.init_reply(request)
    handshake.check_continuation(reply)
    fields = list(p.INIT_OUT.unpack(reply))
    fields[3] |= 1 << 4  # EXPORT_SUPPORT
    with pytest.raises(UsageError, match="features 0x10, which"):
        handshake.check_continuation(p.INIT_OUT.pack(*fields))
    with pytest.raises(UsageError, match="of 3 bytes"):
        handshake.check_continuation(reply[:3])
