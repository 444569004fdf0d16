"""Lets a second publisher commit between a first publisher's last look at the store and its commit."""

from collections.abc import Callable
from typing import Any

import pytest

from lazyfs.core.params import Revision
from lazyfs.repository import commit

_NAME = "lazyfs.repository.edit.commit_revision"


def overtake(monkeypatch: pytest.MonkeyPatch, publish: Callable[[], object]) -> None:
    """Makes the next commit of an Edit call `publish` first, so that another publisher commits before it."""
    real = commit.commit_revision

    def late(*arguments: Any, **named: Any) -> Revision:
        monkeypatch.setattr(_NAME, real)
        publish()
        return real(*arguments, **named)

    monkeypatch.setattr(_NAME, late)
