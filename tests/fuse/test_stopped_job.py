"""Two jobs of one user, of which one is stopped. Each has its own mount, and both mounts share the node's
cache."""

import fcntl
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs_cache.files import layout
from tests.support.cli import mounted, status
from tests.support.images import image, live
from tests.support.nginx import NginxOrigin
from tests.support.repository import Published
from tests.support.until import until

CONTENT = os.urandom(3 << 20)
PATIENCE = 30
"""Deadline of a read in seconds. A read that only waited for the other job would fail."""


def any_download(cache: Path) -> bool:
    """Returns True while a process holds a download lock."""
    whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with (cache / "objects" / layout.DOWNLOADS).open("rb") as file:
        found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, whole)
    return int.from_bytes(found[:2], sys.byteorder) != fcntl.F_UNLCK


@pytest.mark.root
def test_a_job_that_is_stopped_while_it_fetches_keeps_no_other_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    published = Published(tmp_path)
    published.commit(live(published.objects, {"img": image(published.objects, {"f": CONTENT})}))
    cache = tmp_path / "cache"
    options = ("--trust", published.store / "metadata/1.root.json", "--cache", cache)
    with (
        NginxOrigin(published.store) as origin,
        mounted(origin.url, tmp_path / "stopped", *options) as theirs,
        mounted(str(published.store), tmp_path / "running", *options) as ours,
    ):
        assert os.listdir(theirs / "img") == os.listdir(ours / "img") == ["f"]
        until(lambda: not any_download(cache))
        job = int(status(theirs)["pid"])
        origin.pause()
        with subprocess.Popen(["cat", theirs / "img/f"], stdout=subprocess.PIPE) as reader:
            until(lambda: any_download(cache))
            os.kill(job, signal.SIGSTOP)
            try:
                assert any_download(cache), "it was stopped while it fetched"
                assert (ours / "img/f").read_bytes() == CONTENT
            finally:
                os.kill(job, signal.SIGCONT)
                origin.resume()
            assert reader.communicate(timeout=PATIENCE)[0] == CONTENT
