"""The bound on concurrent requests and on the bytes being downloaded: it is never exceeded, requests start in
order, and none waits for ever."""

from collections import deque

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lazyfs.client.under_way import UnderWay

COUNT, MOST = 4, 100


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.begun: deque[int] = deque()
        self.expected: list[int] = []
        self.order: list[int] = []
        self.sizes: dict[int, int] = {}
        self.ends_at_once: set[int] = set()
        self.bound = UnderWay(COUNT, MOST, self.begin)

    def begin(self, item: int, size: int) -> None:
        assert size == min(self.sizes[item], MOST)
        self.begun.append(item)
        self.order.append(item)
        assert len(self.begun) <= COUNT
        assert sum(min(self.sizes[one], MOST) for one in self.begun) <= MOST
        if item in self.ends_at_once:
            self.begun.remove(item)
            self.bound.ended(self.sizes[item])

    @rule(size=st.integers(0, 150), ends_at_once=st.booleans())
    def enter(self, size: int, ends_at_once: bool) -> None:
        item = len(self.sizes)
        self.sizes[item] = size
        self.expected.append(item)
        if ends_at_once:
            self.ends_at_once.add(item)
        self.bound.enter(item, size)

    @precondition(lambda self: self.begun)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(list(self.begun)))
        self.begun.remove(item)
        self.bound.ended(self.sizes[item])

    @precondition(lambda self: self.sizes)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(list(self.sizes)))
        waits = item not in self.order and item in self.expected
        assert self.bound.withdraw(item) == waits
        if waits:
            self.expected.remove(item)

    @invariant()
    def items_are_begun_in_order_as_soon_as_they_fit(self) -> None:
        assert self.order == self.expected[: len(self.order)]
        waiting = self.expected[len(self.order) :]
        if waiting:
            taken = sum(min(self.sizes[one], MOST) for one in self.begun)
            assert len(self.begun) == COUNT or taken + min(self.sizes[waiting[0]], MOST) > MOST

    def teardown(self) -> None:
        while self.begun:
            self.bound.ended(self.sizes[self.begun.popleft()])
        assert self.order == self.expected
        assert self.bound.drain() == []


TestModel = Model.TestCase
