"""Records that check themselves. They avoid dataclasses, whose import would add 10 ms to every start."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

_Record = TypeVar("_Record", bound=NamedTuple)
NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})
"""An empty mapping: the default of fields that are mappings."""


def checked(kind: type[_Record]) -> type[_Record]:
    """Decorator for a NamedTuple: the method `check` is called for each new object, also for those that
    `_replace` makes."""
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
