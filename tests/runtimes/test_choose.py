"""The choice of a runtime: the first in order whose probe succeeds, that can carry out this launch, and that
has the wanted isolation."""

import pytest

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.runtimes.choose import choose
from lazyfs.runtimes.isolation import Check
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.protocol import ProgramEnd, Runtime, RuntimeExit, RuntimePlan, RuntimeProbe, Unfit

LAUNCH = Launch("/image", ("sh",))


class Fake:
    """A runtime whose probe and refusal the test chooses."""

    def __init__(self, name: str, usable: bool = True, refusal: UsageError | None = None) -> None:
        self.name = name
        self._usable = usable
        self._refusal = refusal

    def probe(self) -> RuntimeProbe:
        return RuntimeProbe(self.name, self._usable, "1.0" if self._usable else "is not installed")

    def plan(self, launch: Launch) -> RuntimePlan:
        if self._refusal is not None:
            raise self._refusal
        return RuntimePlan((self.name,), launch.command, (self.name, *launch.command))

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        raise AssertionError("nothing is started here")

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        raise AssertionError("nothing is started here")


def never(_: Runtime) -> tuple[Check, ...]:
    raise AssertionError("the isolation is not asked for")


def test_the_first_that_works_is_taken_and_later_ones_are_not_tried() -> None:
    def runtimes() -> "list[Runtime]":
        return [Fake("a", usable=False), Fake("b"), Fake("c")]

    choice = choose(runtimes(), LAUNCH, "best", never)
    assert choice.runtime.name == "b"
    assert [probe.runtime for probe in choice.probes] == ["a", "b"]
    assert choice.rejected == (("a", "is not installed"),)
    thorough = choose(runtimes(), LAUNCH, "best", never, thorough=True)
    assert thorough.runtime.name == "b"
    assert [probe.runtime for probe in thorough.probes] == ["a", "b", "c"]


def test_a_start_that_one_runtime_cannot_make_goes_to_the_next() -> None:
    choice = choose([Fake("a", refusal=Unfit("takes no colon")), Fake("b")], LAUNCH, "best", never)
    assert choice.runtime.name == "b"
    assert choice.rejected == (("a", "takes no colon"),)


def test_a_start_that_none_could_make_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="target is a file"):
        choose([Fake("a", refusal=UsageError("target is a file")), Fake("b")], LAUNCH, "best", never)


def test_without_any_every_reason_is_given() -> None:
    runtimes = [Fake("a", usable=False), Fake("b", refusal=Unfit("takes no colon"))]
    with pytest.raises(UsageError, match="a: is not installed; b: takes no colon"):
        choose(runtimes, LAUNCH, "best", never)


def test_under_wlcg_every_must_and_under_full_every_should_is_tried() -> None:
    checks = {
        "open": (
            Check("pid namespace", True, False, "the caller's"),
            Check("ipc", False, False, "the caller's"),
        ),
        "half": (Check("pid namespace", True, True, ""), Check("ipc", False, False, "the caller's")),
        "shut": (Check("pid namespace", True, True, ""), Check("ipc", False, True, "")),
    }

    def chosen(level: str) -> str:
        runtimes = [Fake(name) for name in checks]
        return choose(runtimes, LAUNCH, level, lambda runtime: checks[runtime.name]).runtime.name

    assert chosen("wlcg") == "half"
    assert chosen("full") == "shut"
    assert chosen("best") == chosen("none") == "open"
    with pytest.raises(UsageError, match="open: fails wlcg: pid namespace: the caller's"):
        choose([Fake("open")], LAUNCH, "wlcg", lambda runtime: checks[runtime.name])


def test_an_isolation_that_cannot_be_tried_is_none() -> None:
    def fails(_: Runtime) -> tuple[Check, ...]:
        raise LazyfsError("could not be probed")

    with pytest.raises(UsageError, match="fails wlcg: could not be probed"):
        choose([Fake("a")], LAUNCH, "wlcg", fails)
