"""The whole demo, with a small image in the ordinary tier and this machine's Python in the long tier."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from lazyfs.demo.commands import Traffic, Way, serving
from lazyfs.demo.files import with_links
from lazyfs.demo.layout import Layout, unpack
from lazyfs.demo.report import size
from lazyfs.demo.story import fetched, lay_out
from tests.support.cli import lazyfs
from tests.support.until import until

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def layout(tmp_path: Path) -> str:
    """Makes an image of busybox and 5 MB that no program reads. They are incompressible, so that the bytes
    fetched can be compared with the size of the image."""
    made = Layout(str(tmp_path / "layout"))
    made.add_layer([], {"/ballast": os.urandom(5_000_000), "/hello": b"hello from the image\n"})
    made.add_layer(with_links("/bin/busybox"))
    made.finish("v1", {"Cmd": ["/bin/busybox", "cat", "/hello"]})
    return f"oci:{tmp_path}/layout:v1"


def quickstart(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs tools/quickstart to its end."""
    argv = [str(CHECKOUT / "tools/quickstart"), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def mounts() -> list[str]:
    with open("/proc/self/mountinfo", "rb") as file:
        return [line.split()[4].decode() for line in file if b"lazyfs-demo-" in line]


def test_a_given_image_is_run_and_little_of_it_fetched(layout: str) -> None:
    done = lazyfs("demo", layout, "--json")
    told = json.loads(done.stdout)
    cold, again, remounted = told["starts"]
    assert [start["timed"]["output"] for start in told["starts"]] == ["hello from the image\n"] * 3
    assert 0 < cold["traffic"]["sent"] < 2_500_000
    assert again["traffic"] == {"requests": 0, "sent": 0}
    assert remounted["traffic"]["requests"] <= 2  # for the timestamp; all other data are in the node's cache
    assert mounts() == []


def test_a_failing_program_is_reported_and_nothing_is_left_behind(layout: str) -> None:
    done = lazyfs("demo", layout, "--", "/bin/busybox", "false", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "lazyfs: run: the program ended with exit code 1"
    assert mounts() == []


def test_a_source_that_is_none_is_reported_in_publishs_words() -> None:
    done = lazyfs("demo", "oci:/nowhere:v1", check=False)
    assert done.returncode != 0
    assert "/nowhere" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.long
@pytest.mark.timeout(600)
def test_this_machines_python_runs_from_the_mount() -> None:
    done = lazyfs("demo", timeout=600)
    assert "hello from Python" in done.stdout
    assert "fetch and unpack everything first" in done.stdout


def test_the_layers_of_the_comparison_come_from_the_origin(tmp_path: Path) -> None:
    """The demo compares lazy reads with unpacking. So the unpacked layers must come through the same line
    from the same origin."""
    made = Layout(str(tmp_path / "layout"))
    made.add_layer([], {"/big": os.urandom(3_000_000)})
    made.add_layer([], {"/small": b"of the second layer"})
    made.finish("v1", {})
    store = tmp_path / "store"
    lazyfs("repo", "init", store, "--name", "demo.example", "--keys", tmp_path / "keys")
    (store / "data").mkdir(exist_ok=True)
    lay_out(made, str(store))
    with serving(str(store), str(tmp_path / "access.log"), Way()) as origin:
        unpack(fetched(made, origin), str(tmp_path / "unpacked"))
        seen: list[Traffic] = []

        def both_logged() -> bool:  # the server logs an answer after it has sent it
            seen.append(origin.traffic())
            return sum(traffic.requests for traffic in seen) >= 2

        until(both_logged)
        assert sum(traffic.sent for traffic in seen) == made.compressed_bytes
    assert (tmp_path / "unpacked/small").read_bytes() == b"of the second layer"


@contextmanager
def line(near: int, far: int, counts: int) -> Iterator[None]:
    """Runs a relay from one port of this machine to another."""
    ports = ["--forward", f"127.0.0.1:{near}=127.0.0.1:{far}", "--counts", f"127.0.0.1:{counts}"]
    argv = [sys.executable, "-m", "tools.relay", *ports, "--rtt-ms", "2"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as relay:
        assert relay.stdout is not None
        try:
            assert relay.stdout.readline() == "ready\n"
            yield
        finally:
            relay.terminate()


def test_the_mount_takes_the_way_that_it_is_given(layout: str) -> None:
    near, far, counts = free_port(), free_port(), free_port()
    with line(near, far, counts):
        way = ["--listen", f"127.0.0.1:{far}", "--url", f"http://127.0.0.1:{near}"]
        told = json.loads(lazyfs("demo", layout, "--json", *way).stdout)
        with socket.create_connection(("127.0.0.1", counts)) as asked:
            counted = json.loads(asked.makefile().readline())
    asked_for = sum(start["traffic"]["requests"] for start in told["starts"])
    assert 0 < asked_for <= counted["requests"]  # what an unmount cuts short is in no start
    assert counted["bytes_down"] > told["starts"][0]["traffic"]["sent"]


def test_quickstart_puts_a_line_between_worker_and_server(layout: str) -> None:
    """tools/quickstart also ends the relay that it starts. Otherwise the relay would keep its stdout open,
    and this test, which reads the output to its end, would hang."""
    done = quickstart("--line", "2,1000", layout)
    assert done.returncode == 0, done.stderr
    assert "a line of 2 ms and 1000 Mbit/s lies between worker and server" in done.stderr
    assert "hello from the image" in done.stdout


@pytest.mark.parametrize("text", ["fast", "50", "50,", "-1,100", "50,100;id"])
def test_quickstart_refuses_a_line_that_is_none(text: str) -> None:
    done = quickstart("--line", text)
    assert done.returncode == 2
    assert done.stderr == (
        "quickstart: --line MS,MBIT: round trip in milliseconds and 10^6 bit/s, such as 50,100\n"
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (138_240_000, "138.2 MB"), (10**12, "1000.0 GB")],
)
def test_sizes_are_written_for_people(count: int, text: str) -> None:
    assert size(count) == text


def test_quickstart_hands_its_arguments_to_the_demo() -> None:
    done = quickstart("--no-such-option")
    assert done.returncode == 2, done.stderr
    assert "Usage: python -m lazyfs demo" in done.stderr or "Usage: lazyfs demo" in done.stderr
    assert "--no-such-option" in done.stderr
