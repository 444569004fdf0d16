"""The network fails in eight ways while programs read. No read waits past its deadline, cached content stays
readable, and all reads succeed within 10 s after the network is back."""

import itertools
import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.cli import lazyfs, mounted, status
from tests.support.counts import count
from tests.support.fault_server import FaultServer, Misbehave, of_directory
from tests.support.images import image, live
from tests.support.measured import Measured
from tests.support.outage_readers import Readers, read
from tests.support.private_network import NameServer, dropped, private_network
from tests.support.repository import Published
from tests.support.runtime_directory import runtime_directory
from tests.support.squid import Squid
from tests.support.until import until

pytestmark = [pytest.mark.root, pytest.mark.alone, pytest.mark.timeout(300)]

PATIENCE = 3.0
SLACK, RECOVERY = count(10.0, 2.0), count(60.0, 10.0)
"""Seconds that a read may take beyond its deadline, and seconds until reads succeed after the network is
back. The acceptance's 2 s and 10 s are asserted in the long tier, which runs this file alone."""
IMAGES, WARM_READERS, COLD_READERS = count(4, 20), count(8, 70), count(4, 30)
COLD_FILES = 60
"""The number of files in each image that no reader has read before."""

ORDINARY = ("dropped", "dns dead")
WAYS = [
    pytest.param(way, marks=[] if way in ORDINARY else pytest.mark.long)
    for way in (
        "refused", "dropped", "reset", "trickle", "captive portal", "dns dead", "dns slow", "origin dead",
    )
]  # fmt: skip


class Contents:
    """A repository of images, and the contents of all their files: path in the mount -> content."""

    def __init__(self, directory: Path) -> None:
        source = random.Random(7)
        self.published = Published(directory)
        objects = self.published.objects
        self.warm: dict[str, bytes] = {}
        self.cold: dict[str, bytes] = {}
        images = {}
        for number in range(IMAGES):
            warm = {f"w{index}": source.randbytes(20_000) for index in range(3)}
            cold = {f"d{index}": {"f": source.randbytes(6_000)} for index in range(COLD_FILES)}
            nested = {name: image(objects, spec) for name, spec in cold.items()}
            images[f"i:{number}"] = image(objects, warm | {"cold": nested})
            self.warm |= {f"lib/i:{number}/{name}": data for name, data in warm.items()}
            self.cold |= {f"lib/i:{number}/cold/{name}/f": spec["f"] for name, spec in cold.items()}
        self.published.commit(live(objects, {"lib": images}))


class Network:
    """A site with a name server of its own, one squid, one origin, and a direct path to the origin."""

    def __init__(self, store: Path, stack: ExitStack) -> None:
        self.names = stack.enter_context(NameServer())
        self.origin = stack.enter_context(FaultServer(of_directory(store)))
        self.squid = stack.enter_context(Squid())
        self.url = f"http://origin.lazyfs.test:{self.origin.port}"
        self.proxy = f"http://squid.lazyfs.test:{self.squid.port};DIRECT"

    @contextmanager
    def dead(self, way: str) -> Iterator[None]:
        """For the block, breaks the network as `way` says: `refused`, `dns dead`..."""
        with ExitStack() as stack:
            getattr(self, "_" + way.replace(" ", "_"))(stack)
            yield

    def _refused(self, stack: ExitStack) -> None:
        self.squid.kill()
        stack.callback(self.squid.start)
        self._misbehaving(stack, Misbehave.REFUSE)

    def _dropped(self, stack: ExitStack) -> None:
        stack.enter_context(dropped(*self._both_ways(self.squid.port), *self._both_ways(self.origin.port)))

    def _reset(self, stack: ExitStack) -> None:
        self._misbehaving(stack, Misbehave.RESET)

    def _trickle(self, stack: ExitStack) -> None:
        self._misbehaving(stack, Misbehave.TRICKLE)

    def _captive_portal(self, stack: ExitStack) -> None:
        self._misbehaving(stack, Misbehave.PORTAL)

    def _dns_dead(self, stack: ExitStack) -> None:
        stack.enter_context(dropped("-p udp --dport 53"))

    def _dns_slow(self, stack: ExitStack) -> None:
        self.names.delay = 4.0  # a connection has 3 s with its name, glibc asks again after 5 s
        stack.callback(setattr, self.names, "delay", 0.0)

    def _origin_dead(self, stack: ExitStack) -> None:
        stack.enter_context(dropped(*self._both_ways(self.origin.port)))

    def _misbehaving(self, stack: ExitStack, fault: Misbehave) -> None:
        self.origin.misbehave(fault)
        stack.callback(self.origin.misbehave, None)

    @staticmethod
    def _both_ways(port: int) -> tuple[str, str]:
        return f"-p tcp --dport {port}", f"-p tcp --sport {port}"


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    return Contents(tmp_path_factory.mktemp("published"))


@pytest.fixture
def network(contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    with ExitStack() as stack:
        stack.enter_context(private_network())
        stack.enter_context(runtime_directory(tmp_path, monkeypatch))
        yield Network(contents.published.store, stack)


def below(mnt: Path, files: dict[str, bytes]) -> dict[Path, bytes]:
    return {mnt / name: data for name, data in files.items()}


@pytest.mark.parametrize("way", WAYS)
def test_a_network_that_dies_and_returns(
    contents: Contents, network: Network, tmp_path: Path, way: str, measured: Measured
) -> None:
    options = ["--cache", str(tmp_path / "cache"), "--proxy", network.proxy, "--patience", str(PATIENCE)]
    trusted = [*options, "--trust", str(contents.published.store / "metadata/1.root.json")]
    cold = dict(itertools.islice(contents.cold.items(), None, None, 2))
    later = {name: data for name, data in contents.cold.items() if name not in cold}
    with mounted(network.url, tmp_path / "mnt", *trusted) as mnt:
        warm = below(mnt, contents.warm)
        for path, data in warm.items():
            assert read(path) == data
        readers = Readers(warm, below(mnt, cold))
        booted = Readers({}, below(tmp_path / "booted", later))
        with readers.running(WARM_READERS, COLD_READERS):
            with network.dead(way):
                before = readers.cold.calls
                # A node that boots now knows no address, and mounts from what it trusts.
                with mounted(network.url, tmp_path / "booted", *options) as other:
                    for name, data in contents.warm.items():
                        assert read(other / name) == data
                    with booted.running(0, COLD_READERS):
                        until(lambda: booted.cold.calls >= 6 * COLD_READERS, 60)
                until(lambda: readers.cold.calls >= before + 20 * COLD_READERS, 60)
                quickest_df = min(seconds_of_df(mnt) for _ in range(5))
                assert status(mnt)["repositories"]["test.example.org"]["revision"] == 2
            back = time.monotonic()
            cold_files = itertools.cycle(below(mnt, later).items())
            while not readers.ask(*next(cold_files)):
                time.sleep(0.05)
            recovered = time.monotonic() - back
    measured(
        f"{way}: {readers.warm.calls} cached reads, slowest {readers.warm.slowest:.2f} s; "
        f"{readers.cold.calls + booted.cold.calls} other calls, slowest {readers.cold.slowest:.2f} s "
        f"({readers.cold.slowest_call}), failed {readers.cold.errors}, "
        f"after a boot {booted.cold.errors}; "
        f"df {quickest_df * 1000:.1f} ms; recovered after {recovered:.1f} s"
    )
    assert (readers.warm.errors, readers.warm.wrong) == ({}, [])
    assert (readers.cold.wrong, booted.cold.wrong) == ([], [])
    assert {error.partition(": ")[2] for error in readers.cold.errors | booted.cold.errors} <= {"EIO"}
    assert max(readers.warm.slowest, readers.cold.slowest, booted.cold.slowest) < PATIENCE + SLACK
    assert quickest_df < 0.1
    assert recovered < RECOVERY
    if way not in ("dns dead", "dns slow"):  # a running daemon knows the addresses
        assert readers.cold.errors
    if way != "dns slow":
        assert booted.cold.errors


def seconds_of_df(mnt: Path) -> float:
    began = time.monotonic()
    os.statvfs(mnt)
    return time.monotonic() - began


def test_everything_of_ours_ends_while_all_packets_are_dropped(
    contents: Contents, network: Network, tmp_path: Path
) -> None:
    options = ["--cache", str(tmp_path / "cache"), "--proxy", network.proxy, "--patience", str(PATIENCE)]
    options += ["--trust", str(contents.published.store / "metadata/1.root.json")]
    (tmp_path / "mnt").mkdir()
    lazyfs("mount", network.url, tmp_path / "mnt", *options)
    with network.dead("dropped"):
        readers = Readers({}, below(tmp_path / "mnt", contents.cold))
        with readers.running(0, COLD_READERS):
            until(lambda: bool(status(tmp_path / "mnt")["waiting"]))
            limit = PATIENCE + 15  # for the start of a command on a busy machine, and umount's own search
            for command in ("status", "probe", "showconfig", "refresh"):
                lazyfs(command, tmp_path / "mnt", check=False, timeout=limit)
            holder = os.open(tmp_path / "mnt", os.O_RDONLY)
            refused = lazyfs("umount", tmp_path / "mnt", check=False, timeout=limit)
            os.close(holder)
        # a first mount asks for its root of trust, and gives up
        (tmp_path / "new").mkdir()
        options[1] = str(tmp_path / "empty")
        first = lazyfs("mount", network.url, tmp_path / "new", *options, check=False, timeout=limit)
        lazyfs("umount", tmp_path / "mnt", timeout=limit)
    assert (refused.returncode, "in use" in refused.stderr) == (2, True), refused
    assert first.returncode != 0
    assert "origin.lazyfs.test" in first.stderr
