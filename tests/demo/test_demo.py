"""The whole demo, with a small image in the ordinary tier and this machine's Python in the long tier."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from lazyfs.demo.files import with_links
from lazyfs.demo.layout import Layout
from lazyfs.demo.report import size
from tests.support.cli import lazyfs


@pytest.fixture
def layout(tmp_path: Path) -> str:
    """Makes an image of busybox and 5 MB that no program reads. They are incompressible, so that the bytes
    fetched can be compared with the size of the image."""
    made = Layout(str(tmp_path / "layout"))
    made.add_layer([], {"/ballast": os.urandom(5_000_000), "/hello": b"hello from the image\n"})
    made.add_layer(with_links("/bin/busybox"))
    made.finish("v1", {"Cmd": ["/bin/busybox", "cat", "/hello"]})
    return f"oci:{tmp_path}/layout:v1"


def mounts() -> list[str]:
    with open("/proc/self/mountinfo") as file:
        return [line.split()[4] for line in file if "lazyfs-demo-" in line]


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
    assert "unpack everything first" in done.stdout


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (138_240_000, "138.2 MB"), (10**12, "1000.0 GB")],
)
def test_sizes_are_written_for_people(count: int, text: str) -> None:
    assert size(count) == text


def test_quickstart_hands_its_arguments_to_the_demo() -> None:
    done = subprocess.run(
        [Path(__file__).parents[2] / "tools/quickstart", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Publish an image, serve it, mount it" in done.stdout
