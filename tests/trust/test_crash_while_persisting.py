"""A worker dies at any step of saving its trust state. The next worker reads the old state or the new one,
never a mixture."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lazyfs.client.trust.revisions import Revisions
from tests.support.simulated_repository import SimulatedRepository

STEPS = 8
"""The number of system calls in one save at which the process may die; checked by
test_every_step_is_tried."""


class Killed(BaseException):
    """Stands for the death of the process."""


class Killer:
    """Simulates the death of the process at a system call. Counts the calls of `os` that open or change
    files. At call number `fatal`, raises Killed before it or, with `after`, after it, and at every later
    call. If `fatal` is 0, only counts the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fatal: int, after: bool) -> None:
        self.steps = 0
        self.dead = False
        self._fatal = fatal
        self._after = after
        for name in ("mkdir", "open", "write", "fchmod", "fsync", "rename", "unlink"):
            monkeypatch.setattr(os, name, self._killing(getattr(os, name)))

    def _killing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self.dead:
                raise Killed
            if len(arguments) > 1 and isinstance(arguments[1], int) and arguments[1] & os.O_PATH:
                return real(
                    *arguments, **options
                )  # a step of the path: the number of these steps depends on the depth of `tmp_path`
            self.steps += 1
            fatal = self.steps == self._fatal
            self.dead = fatal
            if fatal and not self._after:
                raise Killed
            result = real(*arguments, **options)
            if fatal:
                raise Killed
            return result

        return call


@pytest.mark.parametrize("step", range(1, STEPS + 1))
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_step(
    repository: SimulatedRepository,
    client: Revisions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    after: bool,
) -> None:
    old = client.serving(repository.now)
    new = repository.publish()
    with monkeypatch.context() as patch:
        killer = Killer(patch, step, after)
        with pytest.raises(Killed):
            repository.refresh(client)
    assert killer.dead
    restarted = repository.client(tmp_path)
    assert restarted.offline(repository.now) in (old, new)
    assert restarted.report(repository.now).problem == ""
    assert repository.refresh(restarted) == new
    assert repository.client(tmp_path).offline(repository.now) == new


def test_every_step_is_tried(
    repository: SimulatedRepository, client: Revisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.publish()
    with monkeypatch.context() as patch:
        killer = Killer(patch, 0, after=False)
        repository.refresh(client)
    assert killer.steps == STEPS
