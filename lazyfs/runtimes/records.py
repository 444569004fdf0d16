"""Records that check themselves, without the 10 ms that importing dataclasses takes of every start."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

_Record = TypeVar("_Record", bound=NamedTuple)
NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})
"""The default of a field that is a mapping."""


def checked(kind: type[_Record]) -> type[_Record]:
    """Makes a NamedTuple call its method `check` for each new object, those of `_replace` too. As a
    decorator."""
    make = kind.__new__

    def new(cls: type[_Record], *args: Any, **values: Any) -> _Record:
        made = make(cls, *args, **values)
        made.check()  # type: ignore[attr-defined]
        return made

    def make_of(cls: type[_Record], values: Any) -> _Record:
        return new(cls, *values)

    kind.__new__ = new  # type: ignore[method-assign, assignment]
    kind._make = classmethod(make_of)  # type: ignore[misc, method-assign, assignment]
    return kind
