"""The rules by which images leave the tree, on states and lists made by Hypothesis."""

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.sync.removal import UNWISHED, Lists, due, leaving
from lazyfs.sync.state import ImageState, WisherState

NAMES = st.sampled_from(["a", "b", "c"])
WISHES = st.lists(st.builds(WisherState, NAMES, st.just(1), st.sampled_from(["x", "y"])), max_size=3)
IMAGES = st.dictionaries(
    st.sampled_from([f"r.example/i{number}:1" for number in range(5)]),
    st.builds(ImageState, digest=st.sampled_from(["", "sha256:1"]), wishes=WISHES, gone=st.integers(0, 100)),
    max_size=5,
)
PAIRS = st.frozensets(st.tuples(NAMES, st.sampled_from(["x", "y"])))
LISTS = st.builds(Lists, st.frozensets(NAMES), st.frozensets(NAMES), PAIRS, PAIRS)


@given(IMAGES, st.sets(st.sampled_from([f"r.example/i{number}:1" for number in range(5)])), LISTS,
       st.sampled_from([True, False, None]))  # fmt: skip
def test_nothing_leaves_that_is_meant_or_that_a_list_may_still_mean(
    images: dict[str, ImageState], wished: set[str], lists: Lists, listed: bool | None
) -> None:
    found = {one.place: one for one in leaving(images, wished, lists, lambda _: listed)}
    for place, one in found.items():
        image = images[place]
        assert place not in wished
        assert image.digest
        assert image.wishes, "who wished it is not known: nobody can say that it is wished no longer"
        for wish in image.wishes:
            if (wish.list, wish.wish) in lists.wishes:
                assert (wish.list, wish.wish) not in lists.failed
                assert one.reason != UNWISHED
                assert listed is not None
                assert one.ask is (listed is False)
            else:
                assert wish.list in lists.complete | lists.forgotten
    for place, image in images.items():
        clear = image.digest and image.wishes and place not in wished
        if (
            clear
            and all(one.list in lists.complete for one in image.wishes)
            and not any((one.list, one.wish) in lists.wishes for one in image.wishes)
        ):
            assert found[place].reason == UNWISHED


@given(IMAGES, st.integers(0, 5), st.integers(0, 50), st.integers(1, 200))
def test_no_more_leave_than_allowed_and_none_before_its_time(
    images: dict[str, ImageState], most: int, grace: int, now: int
) -> None:
    gone = [place for number, place in enumerate(images) if number % 2]
    before = {place: image.gone for place, image in images.items()}
    found = due(images, gone, now, grace, most)
    assert len(found.now) <= most
    assert not (found.now and found.too_many)
    for place in images:
        if place not in gone:
            assert images[place].gone == 0
            assert place not in found.now
        else:
            assert images[place].gone == (before[place] or now)
            over = now - images[place].gone >= grace
            assert (place in found.now) is (over and not found.too_many)
