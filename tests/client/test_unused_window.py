"""The bound on the bytes of a profile that nobody has used."""

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.client.unused_window import FREE, GAIN, UnusedWindow
from lazyfs.core.digest import ObjectRef, sha256

REFS = [ObjectRef(sha256(b"%d" % number), 1 + number * 40_961 % 1_200_000) for number in range(40)]
STEPS = st.lists(st.tuples(st.sampled_from(["fetch", "use"]), st.sampled_from(REFS)), max_size=120)


@given(STEPS)
def test_what_is_unused_is_bounded_by_what_was_used(steps: list[tuple[str, ObjectRef]]) -> None:
    """An object that is used twice counts once, and one that was not fetched for the profile never."""
    window = UnusedWindow()
    unused: set[ObjectRef] = set()
    used: set[ObjectRef] = set()
    for step, ref in steps:
        if step == "use":
            window.use(ref.digest)
            used |= unused & {ref}
            unused -= {ref}
        elif ref not in used and window.has_room(ref.size):
            window.begin(ref)
            unused.add(ref)
        wasted, spent = sum(ref.size for ref in unused), sum(ref.size for ref in used)
        assert wasted <= FREE + GAIN * spent
        assert (window.unused_bytes, window.used_bytes) == (wasted, spent)


def test_a_reader_that_uses_something_is_told_of_once() -> None:
    window = UnusedWindow()
    told: list[int] = []
    window.on_use = lambda: told.append(window.used_bytes)
    window.begin(REFS[3])
    for _ in range(3):
        window.use(REFS[3].digest)
        window.use(REFS[4].digest)
    assert told == [REFS[3].size]
