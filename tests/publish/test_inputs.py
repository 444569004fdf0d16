"""Archives read from pipes, from standard input, and from descriptors whose offset is not at the start."""

import gzip
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lazyfs.images.publisher import publish as publish_sources
from lazyfs.repository.collection_state import read_state
from lazyfs.repository.leases import PublisherLease
from tests.support.catalog_listing import Listed, open_tree
from tests.support.cli import LAZYFS
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import NOW, OPTIONS, Repository, StillStore
from tests.support.until import until

LAYER = layer(entry("file", data=os.urandom(300_000)), entry("small", data=b"s"))
IMAGE = Built([LAYER], how="none")


def publish(
    repository: Repository, source: str, *options: str, shell: str = "", stdin: bytes | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """Runs `lazyfs publish` with `stdin` piped into it. If `shell` is given, runs this shell script instead,
    in which LAZYFS stands for that command."""
    command = [*LAZYFS, "publish", source, str(repository.path), "--keys", str(repository.keys_path)]
    command += ["--platform", "amd64", *options]
    if shell:
        command = ["bash", "-c", shell.replace("LAZYFS", '"$@"'), "bash", *command]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return IMAGE.write_archive(tmp_path / "saved.tar", [LAYER], ["r.example/team/app:7"])


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_archive_of_docker_save_comes_through_a_pipe(
    name: str, pack: Callable[[bytes], bytes], archive: Path, tmp_path: Path
) -> None:
    repository = Repository(tmp_path)
    done = publish(repository, f"docker-archive:{name}", stdin=pack(archive.read_bytes()))
    assert done.returncode == 0, done.stderr
    assert b"r.example/team/app:7" in done.stdout
    assert Listed(open_tree(repository.path), IMAGE.flat).read(b"file") in LAYER


@pytest.mark.parametrize("which", ["r.example/team/app:7", "@0"])
def test_an_image_is_named_in_a_stream(which: str, archive: Path, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    done = publish(repository, f"docker-archive:-:{which}", stdin=archive.read_bytes())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_tree_comes_through_a_pipe(name: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    done = publish(repository, f"tar:{name}", "--as", "exported/x", stdin=pack(LAYER))
    assert done.returncode == 0, done.stderr
    assert Listed(open_tree(repository.path), "exported/x").read(b"small") == b"s"
    cut = publish(repository, f"tar:{name}", "--as", "exported/y", stdin=pack(LAYER)[:100_000])
    assert cut.returncode == 1
    assert b"truncated" in cut.stderr


def test_process_substitution_a_named_pipe_and_a_redirect(archive: Path, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for source, shell in (
        ("docker-archive:/dev/fd/9", f"LAZYFS 9< <(cat {archive})"),
        (f"docker-archive:{pipe}", f"cat {archive} >{pipe} & LAZYFS"),
        ("docker-archive:-", f"LAZYFS <{archive}"),
        ("docker-archive:/dev/stdin", f"LAZYFS <{archive}"),
    ):
        done = publish(repository, source, shell=shell)
        assert done.returncode == 0, (source, done.stderr)


def test_a_descriptor_that_stands_in_mid_file(tmp_path: Path) -> None:
    both = tmp_path / "both"
    both.write_bytes(b"x" * 1000 + LAYER)
    repository = Repository(tmp_path)
    shell = f"exec 0<{both}; read -rN 1000; LAZYFS"
    done = publish(repository, "tar:-", "--as", "a/b", shell=shell)
    assert done.returncode == 0, done.stderr
    assert Listed(open_tree(repository.path), "a/b").read(b"small") == b"s"
    done = publish(repository, "docker-archive:-", shell=shell)  # reads twice from that offset
    assert b"has no manifest.json" in done.stderr


@pytest.mark.parametrize(
    ("source", "shell", "message"),
    [
        ("tar:-", "LAZYFS </dev/null", b"- is neither a file nor a pipe"),
        ("tar:/dev/zero", "LAZYFS", b"/dev/zero is neither a file nor a pipe"),
        ("docker-archive:-", "LAZYFS <&-", b"- is neither a file nor a pipe"),
        ("docker-archive:-", "true | LAZYFS", b"truncated"),
        ("tar:-", "true | LAZYFS", b"truncated"),
        ("docker-archive:/tmp", "LAZYFS", b"/tmp: Is a directory"),
        ("docker-archive:-", "cat ARCHIVE | (ulimit -f 100; LAZYFS)", b"choose another place with TMPDIR"),
    ],
)
def test_inputs_that_cannot_be_read(
    source: str, shell: str, message: bytes, archive: Path, tmp_path: Path
) -> None:
    repository = Repository(tmp_path)
    done = publish(repository, source, "--as", "a.example/b:1", shell=shell.replace("ARCHIVE", str(archive)))
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert b"Traceback" not in done.stderr


def test_nothing_is_left_in_tmpdir(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setenv("TMPDIR", str(spool))
    done = publish(Repository(tmp_path), "docker-archive:-", stdin=archive.read_bytes())
    assert done.returncode == 0
    assert list(spool.iterdir()) == []


class Steps(StillStore):
    """A store directory whose clock a test moves."""

    time = NOW.timestamp()

    def now(self) -> float:
        return self.time


@pytest.mark.parametrize("source", ["docker-archive:PIPE", "oci-archive:PIPE", "tar:PIPE"])
def test_a_publisher_that_waits_for_a_pipe_keeps_its_lease(
    source: str, archive: Path, tmp_path: Path
) -> None:
    """The pipe brings its first byte only after three lengths of the lease."""
    repository = Repository(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = layout_archive(tmp_path) if source.startswith("oci") else archive.read_bytes()
    store = Steps(str(repository.path))
    lease = PublisherLease(store, lambda: NOW, length=0.3)
    options = replace(OPTIONS, place="r.example/app:1")

    def write() -> None:
        with pipe.open("wb") as file:
            for _ in range(5):
                store.time += 0.2
                until(lambda: read_state(store).leases[0].until > store.time + 0.2)
            file.write(data)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        sources = [source.replace("PIPE", str(pipe))]
        report = publish_sources(store, repository.keys, sources, options, lambda: NOW, lease)
        writing.result()
    assert report.changed
    lease.end()


def layout_archive(directory: Path) -> bytes:
    """Returns a tar archive of a layout of the image."""
    layout = IMAGE.write_layout(directory / "layout")
    return subprocess.run(["tar", "-C", layout, "-c", "."], capture_output=True, check=True).stdout
