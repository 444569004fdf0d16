"""The decorator `checked`: named tuples that validate themselves whichever way they are created."""

from typing import NamedTuple

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.launch import Bind, Launch
from lazyfs.runtimes.records import checked


@checked
class Positive(NamedTuple):
    value: int
    name: str = "one"

    def check(self) -> None:
        if self.value <= 0:
            raise ValueError(self.value)


def test_each_way_to_a_record_is_checked() -> None:
    assert Positive(1) == (1, "one")
    assert Positive(value=2, name="two")._replace(value=3) == Positive(3, "two")
    with pytest.raises(ValueError, match="0"):
        Positive(0)
    with pytest.raises(ValueError, match="-1"):
        Positive(1)._replace(value=-1)
    with pytest.raises(ValueError, match="0"):
        Positive._make((0, ""))


def test_a_start_cannot_be_changed_into_one_that_no_program_can_be_given() -> None:
    with pytest.raises(UsageError, match="bind target"):
        Bind("/a", "/b")._replace(target="b")
    with pytest.raises(UsageError, match="has a NUL in it"):
        Launch("/image", ("sh",))._replace(environment={"A": "x\0y"})
