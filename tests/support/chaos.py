"""Causes faults at random places of a site. At any moment, at least one path works."""

import random
import threading
import time
from collections import Counter

from tests.support.counts import count
from tests.support.fault_server import Misbehave
from tests.support.nginx import NginxOrigin
from tests.support.site import RealSite
from tests.support.squid import Squid

SEED = count(5, int(time.time()))
"""The long tier has other faults in each run, and prints this number."""


class Chaos:
    """A thread that breaks and repairs members of a site. At any moment it leaves one path working."""

    def __init__(self, site: RealSite, second: NginxOrigin, seed: int = SEED) -> None:
        self._site = site
        self._second = second
        self._random = random.Random(seed)
        self.injected: Counter[str] = Counter()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.failure: BaseException | None = None

    def total(self) -> int:
        """Returns the number of faults so far."""
        return sum(list(self.injected.values()))  # a copy: the thread goes on counting

    def __enter__(self) -> "Chaos":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        assert self.failure is None, self.failure

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self._epoch()
        except BaseException as failure:
            self.failure = failure
            raise

    def _epoch(self) -> None:
        site = self._site
        daemons: list[Squid | NginxOrigin] = [site.one, site.two, site.parent, self._second]
        way: list[Squid | NginxOrigin] = self._random.choice(
            [[site.one, site.parent], [site.two, site.parent], []]
        )
        first_lives = self._random.random() < 0.5
        if not first_lives:
            way = [*way, self._second]
        # the new path is whole before the old one is broken
        for daemon in way:
            self._heal(daemon)
        if first_lives:
            site.between.misbehave(None)
            time.sleep(0.05)
        for daemon in daemons:
            if daemon not in way and self._random.random() < 0.7:
                self._break(daemon)
        if not first_lives:
            fault = self._random.choice([*Misbehave])
            site.between.misbehave(fault)
            self.injected[fault.value] += 1
        self._ending.wait(self._random.uniform(0.5, 2.0))
        for daemon in daemons:
            self._heal(daemon)

    def _break(self, daemon: Squid | NginxOrigin) -> None:
        if self._random.random() < 0.5:
            daemon.kill()
            self.injected[f"{daemon.name} killed"] += 1
        else:
            daemon.pause()
            self.injected[f"{daemon.name} stopped"] += 1

    def _heal(self, daemon: Squid | NginxOrigin) -> None:
        if daemon.running:
            daemon.resume()
        else:
            daemon.start()
