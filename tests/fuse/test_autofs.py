"""Mounts made by a real automounter: first access, expiry, remounting, and failures."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.automounter import LAZYFS, Automounter
from tests.support.images import image, live
from tests.support.repository import Published
from tests.support.until import until

pytestmark = pytest.mark.root

PATIENCE = 2
"""Seconds after which a mount gives up on a dead origin."""
GRACE = 20
"""Seconds after PATIENCE within which a mount must have reported the failure, even on a busy machine."""
NO_SERVER = "http://127.0.0.1:9/nothing"


@pytest.fixture
def node() -> Iterator[Automounter]:
    with Automounter() as made:
        yield made


@pytest.fixture
def published(open_path: Path) -> Published:
    made = Published(open_path / "published")
    made.commit(live(made.objects, {"img": image(made.objects, {"f": b"1", "big": bytes(300_000)})}))
    return made


def status(node: Automounter, path: Path) -> Any:
    """Returns the daemon's answer to `lazyfs status --json`."""
    done = node.run(LAZYFS, "status", path, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ended(node: Automounter) -> None:
    """Waits until no daemon is left; asserts that no control socket is left either."""
    until(lambda: not node.daemons())
    assert node.run("find", "/run/lazyfs", "-name", "*.sock").stdout == ""


def only_one(node: Automounter, path: Path) -> None:
    """Waits until the daemon of `path` is the only one, since its predecessor may still be ending."""
    pid = status(node, path)["pid"]
    until(lambda: node.daemons() == [pid])


def test_a_mount_comes_goes_and_comes_again(published: Published, kind: str) -> None:
    with Automounter(timeout=1) as node:
        node.configure("one", f'source = "{published.store}"\nfuse = "{kind}"\n')
        node.start()
        path = node.top / "one"
        for _ in range(2):
            user = node.begin("sh", "-c", 'cd "$0" && cat img/f && exec sleep 600', path)
            assert user.stdout is not None
            assert user.stdout.read(1) == "1"
            found = status(node, path)
            assert (found["mountpoint"], found["session"]) == (str(path), kind)
            assert node.daemons() == [found["pid"]]
            user.terminate()
            user.communicate()
            until(lambda: not node.is_mounted(path))  # nobody used it for a second
            ended(node)
        assert "ERROR" not in node.log_file("one").read_text()
        assert node.log_file("one").read_text().count("was unmounted") == 2


def test_many_programs_begin_at_once(node: Automounter, published: Published, kind: str) -> None:
    node.configure("one", f'source = "{published.store}"\nfuse = "{kind}"\n')
    node.start()
    for _ in range(2):
        programs = [node.begin("cat", node.top / "one/img/f") for _ in range(24)]
        assert [program.communicate() for program in programs] == [("1", "")] * 24
        only_one(node, node.top / "one")
        node.expire(node.top / "one")


def test_a_mount_that_is_asked_for_again_is_there(node: Automounter, published: Published, kind: str) -> None:
    """Regression: of many programs that began at once, some were told that the directory does not exist,
    because automount asked for the mount again just after it was made, and was told that it is busy."""
    path = node.direct / "unpacked"
    node.configure("one", f'source = "{published.store}"\nfuse = "{kind}"\n')
    node.map_directly("one", path)
    node.start()
    for place in (node.top / "one", path):
        assert node.read(place / "img/f") == "1"
        mount = ("mount", "-t", "lazyfs", "-o", "config=/etc/lazyfs/one.toml", "lazyfs", place)
        assert node.run(*mount).returncode == 0
        assert f"{place}: is mounted already" in node.syslog()
        assert node.read(Path("/proc/mounts")).count(f" {place} fuse.lazyfs ") == 1
    node.run("mkdir", "/tmp/alone")
    alone = (*mount[:-1], "/tmp/alone")
    assert node.run(*alone).returncode == 0
    assert node.run(*alone).returncode != 0
    assert "is busy" in node.syslog()


def test_a_mount_that_is_asked_for_again_while_the_automounter_waits_is_there(
    node: Automounter, published: Published, kind: str
) -> None:
    """Regression: the process that asked the mount whether it answers waited for the automounter, which
    waited for the mount helper: the mount was said not to answer."""
    path = node.direct / "unpacked"
    node.configure("one", f'source = "{published.store}"\nfuse = "{kind}"\n')
    node.map_directly("one", path)
    node.mount_twice()
    node.start()
    for place in (node.top / "one", path):
        assert node.read(place / "img/f") == "1"
        assert f"{place}: is mounted already" in node.syslog()
    assert node.mounted_twice.read_text() == "0 0\n" * 2


def test_a_direct_map(node: Automounter, published: Published, kind: str) -> None:
    path = node.direct / "unpacked"
    node.configure("one", f'source = "{published.store}"\nfuse = "{kind}"\n')
    node.map_directly("one", path)
    node.start()
    for _ in range(2):
        assert node.read(path / "img/f") == "1"
        assert status(node, path)["mountpoint"] == str(path)
        node.expire(path)
        ended(node)


def test_a_site_of_several_repositories(node: Automounter, published: Published, kind: str) -> None:
    node.configure(
        "site",
        f'fuse = "{kind}"\npatience = {PATIENCE}.0\n'
        f'[repositories."{published.name}"]\nurl = "{published.store}"\n'
        f'[repositories.dead]\nurl = "{NO_SERVER}"\ntrust = "{"0" * 64}"\n',
    )
    node.start()
    assert node.read(node.top / "site" / published.name / "img/f") == "1"
    dead = node.run("ls", node.top / "site/dead/", seconds=PATIENCE + GRACE)
    assert dead.returncode == 2
    assert "Input/output error" in dead.stderr
    assert NO_SERVER in node.log_file("site").read_text()
    node.expire(node.top / "site")
    ended(node)
    assert node.read(node.top / "site" / published.name / "img/f") == "1"


def test_what_cannot_be_mounted_fails_and_says_why(node: Automounter, published: Published) -> None:
    dead = f'source = "{NO_SERVER}"\npatience = {PATIENCE}.0\n'
    cases = {
        "unknown-field": ('sorce = "x"\n', "sorce"),
        "no-store": ('source = "/nowhere/store"\n', "/nowhere/store"),
        "no-toml": ("source = \n", "/etc/lazyfs/no-toml.toml"),
        "no-trust": (dead, "--trust"),
        "dead-origin": (dead + f'trust = "{"0" * 64}"\n', "not here by the deadline"),
    }
    for name, (text, _) in cases.items():
        node.configure(name, text)
    node.configure("one", f'source = "{published.store}"\n')
    node.start()
    for name, (_, reason) in cases.items():
        done = node.run("ls", node.top / name, seconds=PATIENCE + GRACE)
        assert done.returncode == 2
        assert "No such file or directory" in done.stderr
        line = node.syslog()
        assert re.search(r"mount\.lazyfs\[\d+\]: " + f"{node.top}/{name}: .*{re.escape(reason)}", line), line
    assert f"origin {NO_SERVER}: down: connection refused" in node.log_file("dead-origin").read_text()
    assert "not here by the deadline" in node.log_file("dead-origin").read_text()
    assert node.daemons() == []
    assert node.read(node.top / "one/img/f") == "1"


def test_a_daemon_that_gives_up_root(node: Automounter, published: Published, kind: str) -> None:
    node.configure("one", f'source = "{published.store}"\nfuse = "{kind}"\nuser = "nobody"\n')
    node.start()
    for _ in range(2):
        assert node.read(node.top / "one/img/f") == "1"
        node.expire(node.top / "one")
        until(lambda: not node.daemons())


def test_a_killed_daemon_is_replaced_after_expiry(node: Automounter, published: Published, kind: str) -> None:
    node.configure("one", f'source = "{published.store}"\nfuse = "{kind}"\nno_keeper = true\n')
    node.start()
    assert node.read(node.top / "one/img/f") == "1"
    node.signal("KILL", status(node, node.top / "one")["pid"])
    assert node.run("cat", node.top / "one/img/big").returncode == 1
    node.expire(node.top / "one")
    assert node.read(node.top / "one/img/f") == "1"


def test_a_daemon_told_to_stop_is_started_by_the_next_access(
    node: Automounter, published: Published, kind: str
) -> None:
    node.configure("one", f'source = "{published.store}"\nfuse = "{kind}"\n')
    node.start()
    assert node.read(node.top / "one/img/f") == "1"
    node.signal("TERM", status(node, node.top / "one")["pid"])
    until(lambda: not node.daemons())
    assert node.read(node.top / "one/img/f") == "1"


def test_a_new_mount_outlives_the_end_of_the_old_one(
    node: Automounter, published: Published, kind: str
) -> None:
    """The old daemon notices late that its mount has ended. By then, the new mount has the same path and
    device number."""
    node.configure("one", f'source = "{published.store}"\nfuse = "{kind}"\n')
    node.start()
    path = node.top / "one"
    assert node.read(path / "img/f") == "1"
    old = status(node, path)["pid"]
    node.signal("STOP", old)
    node.expire(path)
    assert node.read(path / "img/f") == "1"
    new = status(node, path)["pid"]
    assert sorted(node.daemons()) == sorted([old, new])
    node.signal("CONT", old)
    until(lambda: node.daemons() == [new])
    assert node.is_mounted(path)
    assert node.read(path / "img/big") == "\0" * 300_000
    assert status(node, path)["pid"] == new
    node.expire(path)
    ended(node)


def test_the_automounter_ends_in_order(node: Automounter, published: Published) -> None:
    node.configure("one", f'source = "{published.store}"\n')
    node.start()
    assert node.read(node.top / "one/img/f") == "1"
    node.signal("TERM")
    ended(node)
