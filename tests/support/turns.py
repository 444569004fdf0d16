"""Threads that take turns at every operation of a store, in an order that a seed determines."""

import random
import threading

STUCK = 100.0
"""Seconds after which a thread that gets no turn fails the test."""


class Turns:
    """Lets one actor run at a time, among those that have not ended."""

    def __init__(self, actors: list[str], draw: random.Random) -> None:
        self._changed = threading.Condition()
        self._living = list(actors)
        self._draw = draw
        self._holder = actors[0]

    def step(self, actor: str) -> None:
        """Gives the turn to a random actor. Returns when the calling actor has the turn again."""
        with self._changed:
            if actor == self._holder:
                self._pass_on()
            if not self._changed.wait_for(lambda: self._holder == actor or actor not in self._living, STUCK):
                raise AssertionError(f"{actor} got no turn for {STUCK} s")

    def leave(self, actor: str) -> None:
        """Removes an actor that has ended."""
        with self._changed:
            self._living.remove(actor)
            if self._living and actor == self._holder:
                self._pass_on()

    def _pass_on(self) -> None:
        self._holder = self._draw.choice(self._living)
        self._changed.notify_all()
