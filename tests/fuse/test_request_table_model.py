"""The table of requests against a model of its two processes, each of which may be stopped or killed between
any two steps: the table has each request without an answer, and the keeper's slots all come back."""

import os
from collections.abc import Callable
from unittest.mock import patch

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lazyfs.fuse.direct import request_table
from lazyfs.fuse.direct.request_table import NOWHERE, Kept, RequestTable
from lazyfs.fuse.wire import protocol as p
from tests.support.counts import count

SLOTS = 3
Rule = Callable[..., None]


def unique_of(kept: Kept) -> int:
    return int(p.IN_HEADER.unpack_from(kept.request)[2])


def while_it(*states: str) -> Callable[[Rule], Rule]:
    """The daemon is in one of these states."""
    return precondition(lambda self: self.daemon_is in states)


class Processes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patch = patch.object(request_table, "SLOTS", SLOTS)
        self.patch.start()
        self.fd = RequestTable.make()
        self.keeper = RequestTable(os.dup(self.fd), keeper=True)
        self.daemon = RequestTable(os.dup(self.fd))
        self.daemon_is = "running"
        self.unique = 0
        self.unanswered: set[int] = set()
        self.tasks: dict[int, int] = {}
        """For each request that the daemon itself has read, its slot."""
        self.todo: list[Kept] = []
        """The requests that the daemon has found, and serves one after the other."""
        self.served: Kept | None = None
        """The request that the daemon has taken from `todo` and answered, but not settled yet; None if there
        is none."""
        self.answered_by_the_dead: set[int] = set()

    def teardown(self) -> None:
        self.patch.stop()
        for table in (self.keeper, self.daemon):
            table.close()
        os.close(self.fd)

    def next_unique(self) -> int:
        self.unique += 1
        return self.unique

    # the daemon

    @while_it("running")
    @rule()
    def daemon_reads(self) -> None:
        unique = self.next_unique()
        slot = self.daemon.enter(p.LOOKUP, unique, 1, b"name\0")
        if slot == NOWHERE:
            assert len(self.tasks) == SLOTS
            return  # not kept: nothing is promised
        assert slot not in self.tasks.values()
        self.unanswered.add(unique)
        self.tasks[unique] = slot

    @while_it("running")
    @precondition(lambda self: self.tasks)
    @rule(which=st.integers(0, SLOTS))
    def daemon_answers(self, which: int) -> None:
        unique = sorted(self.tasks)[which % len(self.tasks)]
        self.unanswered.discard(unique)
        self.daemon.leave(self.tasks.pop(unique))

    @while_it("running")
    @precondition(lambda self: not self.todo and self.served is None)
    @rule()
    def daemon_looks(self) -> None:
        self.todo = [kept for kept in self.daemon.kept_in_slots() if kept.slot >= SLOTS]

    @while_it("running")
    @precondition(lambda self: self.todo or self.served is not None)
    @rule()
    def daemon_serves(self) -> None:
        """Answers a request that it has found, or settles the one that it has just answered."""
        if self.served is not None:
            self.daemon.settle(self.served)
            self.served = None
        else:
            self.served = self.todo.pop()
            self.unanswered.discard(unique_of(self.served))

    @while_it("running", "stopped")
    @rule(stops=st.booleans())
    def daemon_stops_or_goes_on(self, stops: bool) -> None:
        self.daemon_is = "stopped" if stops else "running"

    @while_it("running", "stopped")
    @rule()
    def daemon_dies(self) -> None:
        self.daemon_is = "dead"
        if self.served is not None:
            self.answered_by_the_dead.add(unique_of(self.served))
        self.tasks, self.todo, self.served = {}, [], None

    @while_it("dead")
    @rule()
    def successor_starts(self) -> None:
        self.daemon.close()
        self.daemon = RequestTable(os.dup(self.fd))
        for kept in self.daemon.kept_in_slots():
            self.unanswered.discard(unique_of(kept))
            self.daemon.settle(kept)
        self.answered_by_the_dead.clear()
        self.daemon_is = "running"

    # the keeper

    @while_it("stopped", "dead")
    @rule()
    def keeper_reads(self) -> None:
        unique = self.next_unique()
        before = [kept for kept in self.keeper.kept_in_slots() if kept.slot >= SLOTS]
        slot = self.keeper.enter(p.LOOKUP, unique, 1, b"name\0")
        assert (slot == NOWHERE) == (len(before) == SLOTS)
        if slot != NOWHERE:
            self.unanswered.add(unique)

    @while_it("stopped", "dead")
    @rule(which=st.integers(0, 2 * SLOTS))
    def keeper_refuses(self, which: int) -> None:
        found = self.keeper.kept_in_slots()
        if found:
            kept = found[which % len(found)]
            self.unanswered.discard(unique_of(kept))
            self.keeper.settle(kept)

    @while_it("running")
    @rule()
    def another_keeper_starts(self) -> None:
        self.keeper.close()
        self.keeper = RequestTable(os.dup(self.fd), keeper=True)

    @invariant()
    def each_request_without_an_answer_is_there(self) -> None:
        there = {unique_of(kept) for kept in self.keeper.kept_in_slots()}
        answered = self.answered_by_the_dead | ({unique_of(self.served)} if self.served else set())
        assert self.unanswered <= there <= self.unanswered | answered


TestProcesses = Processes.TestCase
TestProcesses.settings = settings(
    max_examples=count(100, 5000), stateful_step_count=count(60, 120), deadline=None
)
