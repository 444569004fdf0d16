"""A service that is killed at random points continues with its next run, and loses nothing."""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support.cli import LAZYFS, mounted
from tests.support.counts import count
from tests.support.service import ServiceSite, built, events_of
from tests.support.service_world import (
    BASES,
    HUB,
    PRIVATE,
    SITE,
    WRONG,
    Requests,
    World,
    service_world,
    site_of,
)

KILLS = count(4, 50)
pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.fixture
def world(tmp_path: Path, requests: Requests) -> Iterator[World]:
    with service_world(tmp_path / "world", requests) as world:
        world.doors[SITE].limited = False  # the pauses of a process last as long as they say
        yield world


@pytest.fixture
def service(tmp_path: Path, world: World) -> ServiceSite:
    return site_of(world, tmp_path / "service")


def configuration(world: World, service: ServiceSite) -> Path:
    """Writes the service's configuration; returns its path."""
    lines = ["[service]", "last-update = false", "images-per-revision = 5"]
    for name, settings in world.settings().items():
        lines.append(f'[registries."{name}"]')
        for key, value in msgspec.to_builtins(settings).items():
            if value is not None:
                lines.append(f"{key} = {msgspec.json.encode(value).decode()}")
    path = service.directory / "service.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def start(world: World, service: ServiceSite) -> "subprocess.Popen[bytes]":
    command = [
        *LAZYFS, "sync", *map(str, world.write_lists(service.directory)), str(service.repository.path),
        "--keys", str(service.repository.keys_path), "--config", str(configuration(world, service)),
        "--status-dir", str(service.status),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def move(world: World, number: int) -> None:
    """Gives one tag in each registry a new image, and adds a tag that matches the pattern."""
    for place in (f"{HUB}/hub/app0:0", f"{SITE}/team/app1:1", f"{PRIVATE}/secret/app2:2"):
        world.put(place, built(f"moved {number} {place.replace('/', '_')}", base=BASES[number % 3]))
    world.put(f"{HUB}/hub/tagged:v3.{number}", built(f"tagged {number}", base=BASES[number % 3]))


def test_killed_at_random_points(
    world: World, service: ServiceSite, requests: Requests, tmp_path: Path
) -> None:
    draw = random.Random(os.environ.get("LAZYFS_SEED", "kill"))
    in_tree: dict[str, str] = {}
    every: dict[str, set[str]] = {}
    killed = 0
    for number in range(KILLS):
        if number:
            move(world, number)
        for place, config in world.configs().items():
            every.setdefault(place, set()).add(config)
        process = start(world, service)
        # A first run makes about 250 requests, a run that finds four images new about 90. The pause is
        # deliberate: the moment of the kill is random, also between two requests.
        at = requests.count + draw.randrange(1, 250 if number < 3 else 90)
        while not requests.wait_for(at, seconds=0.05) and process.poll() is None:
            pass
        time.sleep(draw.random() * 0.05)
        killed += process.poll() is None
        process.kill()
        process.wait()
        findings = service.repository.check()
        assert findings.bad == 0, findings.problems
        found = service.images()
        assert found.keys() >= in_tree.keys(), "what was in the tree is still there"
        assert all(config in every[place] for place, config in found.items())
        in_tree = found
    assert killed
    assert start(world, service).wait(timeout=300) == 1
    assert service.images() == world.configs()
    again = service.run(world.write_lists(service.directory))
    assert (again.unchanged, events_of(again, "failed", "waiting")) == (len(world.expected), [WRONG])
    assert service.repository.check().bad == 0
    with mounted(service.repository.path, tmp_path / "mnt", "--cache", tmp_path / "cache") as mount:
        world.compare(mount)
