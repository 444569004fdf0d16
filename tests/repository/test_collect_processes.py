"""Publishers, removals and garbage collections as real processes on one store directory, killed at random
moments."""

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from lazyfs.core.params import Params
from lazyfs.repository import history
from lazyfs.repository.commit import read_committed
from lazyfs.repository.kept_revisions import kept_revisions
from lazyfs.store.check import check
from lazyfs.store.directory import DirectoryStore
from tests.support.cli import LAZYFS, lazyfs
from tests.support.counts import count
from tests.support.oci_images import Built, entry, layer
from tests.support.older_objects import make_older
from tests.support.repositories import Repository

BASE = layer(*(entry(f"base/{number}", data=random.Random(number).randbytes(3000)) for number in range(50)))
ROUNDS = count(3, 40)
pytestmark = pytest.mark.timeout(1800)


class Site:
    """A repository that keeps no old revisions, and commands that run on it concurrently."""

    def __init__(self, directory: Path) -> None:
        self.repository = Repository(directory, Params(keep_days=0))
        self.store = DirectoryStore(str(self.repository.path))
        self.layouts = []
        for number in range(3):
            own = layer(entry("own", data=b"%d" % number * 2000))
            self.layouts.append(Built([BASE, own], how="none").write_layout(directory / f"layout{number}"))

    def start(self, *arguments: str | Path) -> "subprocess.Popen[str]":
        command = [*LAZYFS, *map(str, arguments), str(self.repository.path)]
        if arguments[0] == "publish":
            command += ["--as", str(arguments[1]).rpartition("layout")[2] + ".example/x:1"]
        command += ["--keys", str(self.repository.keys_path)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def publish(self, number: int) -> "subprocess.Popen[str]":
        return self.start("publish", f"oci:{self.layouts[number]}")

    def age(self) -> None:
        """Makes every object ten seconds older, because a collection spares objects of the last two
        seconds."""
        make_older(self.repository.path, 10)

    def check(self) -> None:
        """Asserts that every kept revision is complete."""
        newest = read_committed(self.store).revision
        for kept in kept_revisions(self.store, newest, time.time()):
            assert check(self.store, kept.past.root, history=kept.history).problems == []


def test_killed_at_random_moments_every_kept_revision_is_whole(tmp_path: Path) -> None:
    site = Site(tmp_path)
    draw = random.Random(os.environ.get("LAZYFS_SEED", "collect"))
    site.publish(0).communicate(timeout=120)
    began = time.monotonic()
    lazyfs("gc", site.repository.path, "--keys", site.repository.keys_path)
    whole = time.monotonic() - began
    for _ in range(ROUNDS):
        running = [site.publish(number) for number in (0, 1)]
        running.append(site.start("rm", "--untagged"))
        running.append(site.start("gc", "--wait", "1"))
        # The wait is deliberate: the moment of the kills is random, at any step of each.
        time.sleep(draw.uniform(0.2, 1.0) * whole)
        for process in running:
            if draw.random() < 0.7:
                process.kill()
            process.communicate(timeout=120)
        site.check()
    assert [past.number for past in history.revisions(site.store)][-1] == 1


def test_side_by_side_nobody_fails_and_what_is_published_is_there(tmp_path: Path) -> None:
    site = Site(tmp_path)
    deleted = 0
    for number in range(count(2, 10)):
        running = [site.publish(one) for one in (0, 1)] + [site.start("gc", "--wait", "60")]
        for process in running:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said
        site.check()
        before = len(list(site.store.objects()))
        lazyfs("rm", f"{number % 2}.example/x:1", site.repository.path, "--keys", site.repository.keys_path)
        site.age()
        lazyfs("gc", site.repository.path, "--keys", site.repository.keys_path)
        deleted += before - len(list(site.store.objects()))
        site.check()
    assert deleted > 0
