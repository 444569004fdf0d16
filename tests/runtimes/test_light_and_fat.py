"""The examples of light and fat images in docs/running.md give the same result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.busybox import busybox_root
from tests.support.cli import LAZYFS, lazyfs, new_repository

ANALYSE = '#!/bin/sh\nread -r site </etc/oracle/tnsnames.ora\necho "$site: $(cat "$1")"\n'
TEXT = (Path(__file__).parents[2] / "docs/running.md").read_text()
EXAMPLES = TEXT.split("### Light and fat images\n")[1].split("### ")[0].split("```sh\n")[1:]


def _system(root: Path) -> Path:
    return busybox_root(root, "sh", "cat")


def _program(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(ANALYSE)
    path.chmod(0o755)


@pytest.fixture
def mounts(tmp_path: Path) -> list[str]:
    """Publishes the images and the software; returns the options of `lazyfs exec` that mount them."""
    work = tmp_path / "published"
    light, fat, software = _system(work / "light"), _system(work / "fat"), work / "software"
    _program(fat / "usr/bin/analyse")
    (fat / "etc/oracle").mkdir(parents=True)
    (fat / "etc/oracle/tnsnames.ora").write_text("here\n")
    _program(software / "bin/analyse")
    (software / "setup.sh").write_text("PATH=$PATH:/software/bin\n")
    store, keys = new_repository(work)
    for tree, name in ((light, "experiment/base:1"), (fat, "experiment/analysis:1.4")):
        lazyfs("publish", f"dir:{tree}", store, "--as", name, "--keys", keys)
    (work / "released").mkdir()
    released, keys = new_repository(work / "released", "software.example.org")
    lazyfs("publish", f"dir:{software}", released, "--as", "1", "--keys", keys)
    places = {store: "unpacked.example.org", released: "software.example.org"}
    mounts = [word for at, name in places.items() for word in ("--mount", f"{at}=/cvmfs/{name}")]
    return [*mounts, "--cache", str(work / "cache")]


def test_both_kinds_of_image_run_as_documented(mounts: list[str], tmp_path: Path) -> None:
    """`lazyfs exec` makes the mounts, so that /cvmfs is as in the examples."""
    (tmp_path / "tnsnames.ora").write_text("here\n")
    (tmp_path / "events").write_text("events\n")
    assert len(EXAMPLES) == 2
    for example in EXAMPLES:
        (tmp_path / "result").unlink(missing_ok=True)
        done = subprocess.run(
            [*LAZYFS, "exec", *mounts, "--", "sh", "-ec", example.split("```")[0]],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
        assert (tmp_path / "result").read_text() == "here: events\n"
