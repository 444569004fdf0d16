"""The bound on what a profile fetches ahead: FREE bytes on trust, and more for each byte that is used. What a
reader asks for before the profile does counts as used, once."""

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.client.unused_window import FIRST, FIRST_GAIN, FREE, GAIN, UnusedWindow
from lazyfs.core.digest import ObjectRef, sha256
from lazyfs.core.profile import LEAST

SIZES = [1, 100_000, 1 << 20, 3 << 20] * 20
REFS = [ObjectRef(sha256(b"%d" % number), size) for number, size in enumerate(SIZES)]
EVENTS = st.lists(st.tuples(st.sampled_from(["fetch", "use", "ask"]), st.sampled_from(REFS)), max_size=300)


@given(EVENTS)
def test_what_is_unused_stays_within_what_the_used_bytes_allow(events: list[tuple[str, ObjectRef]]) -> None:
    window = UnusedWindow()
    unused: set[ObjectRef] = set()
    used: set[ObjectRef] = set()
    for event, ref in events:
        if event == "fetch" and window.has_room(ref.size):
            window.begin(ref)
            unused |= {ref} - used
        elif event == "use":
            window.use(ref.digest)
            used |= unused & {ref}
        elif event == "ask":
            window.ask(ref)
            used |= {ref} - unused
        unused -= used
        assert window.unused_bytes == sum(max(one.size, LEAST) for one in unused)
        assert window.used_bytes == sum(one.size for one in used)
        most = max(GAIN * window.used_bytes, min(FIRST_GAIN * window.used_bytes, FIRST))
        assert window.unused_bytes <= FREE + most
        assert window.used_bytes or window.unused_bytes <= 2_000_000


def test_a_reader_that_asks_first_wakes_whoever_waits_for_a_use() -> None:
    window = UnusedWindow()
    calls = []
    window.on_use.add(lambda: calls.append(window.used_bytes))
    window.ask(REFS[3])
    window.ask(REFS[3])
    assert calls == [3 << 20]
    assert window.has_room(FREE + GAIN * (3 << 20))


def test_a_reader_that_uses_something_is_told_of_once() -> None:
    window = UnusedWindow()
    told: list[int] = []
    window.on_use.add(lambda: told.append(window.used_bytes))
    window.begin(REFS[3])
    for _ in range(3):
        window.use(REFS[3].digest)
        window.use(REFS[2].digest)
    assert told == [REFS[3].size]
