"""Real programs get the same results on the mount as in the unpacked tree."""

import ctypes
import hashlib
import mmap
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.daemon.session_choice import KINDS
from tests.support.cli import lazyfs, new_repository

pytestmark = pytest.mark.root

LINES = "-printf '%P %y %m %U %G %n %l %T@\\n'"
LINES_OF_FILES = "-not -type d -printf '%P %s\\n'"


def shell(command: str, cwd: Path) -> str:
    done = subprocess.run(
        command, shell=True, cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_tree(at: Path) -> None:
    """Makes a tree with programs, a Python package, a git repository, a database, odd names, links and
    modes."""
    at.mkdir()
    shell(
        """
        set -e
        git init -q repo && cd repo && git config user.email a@b && git config user.name a
        mkdir src && seq 1000 > src/numbers && echo hello > README && git add . && git commit -qm first
        cd ..
        sqlite3 data.db 'create table t(a, b); with recursive n(i) as (values(1) union all select i+1 from n
            where i<20000) insert into t select i, i*i from n; create index x on t(b);'
        mkdir -p package/deep && echo 'from package.deep import value' > package/__init__.py
        echo 'value = 42' > package/deep/__init__.py
        mkdir odd && printf x > 'odd/ space' && printf y > "$(printf 'odd/new\\nline')" && printf z > odd/-rf
        mkdir modes
        for mode in 0000 0400 0644 0755 1777 2755 4755; do touch modes/$mode; chmod $mode modes/$mode; done
        ln -s nowhere dangling && ln -s repo/README link && ln repo/README hard && mkfifo pipe
        head -c 5000000 /dev/urandom > big
        touch -d '1965-05-05 05:05:05.5' old && touch -d '2040-01-01' future
        chown 1234:4321 old
        mkdir bin && cp /bin/busybox bin/ && cp "$(readlink -f /bin/ls)" bin/ls
        """,
        at,
    )


class Pair:
    """The tree and the mount that shows it."""

    def __init__(self, tree: Path, mount: Path) -> None:
        self.tree = tree
        self.mount = mount

    def same(self, command: str) -> str:
        """Runs the command in both places and asserts that the outputs are equal; returns the output."""
        expected = shell(command, self.tree)
        assert shell(command, self.mount) == expected
        return expected


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("programs") / "tree"
    make_tree(path)
    return path


@pytest.fixture(params=KINDS, scope="module")
def pair(
    request: pytest.FixtureRequest, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    path = tmp_path_factory.mktemp(request.param)
    store, keys = new_repository(path)
    lazyfs("publish", f"dir:{tree}", store, "--as", "tree", "--keys", keys)
    mnt = path / "mnt"
    mnt.mkdir()
    lazyfs("mount", store, mnt, "--cache", path / "cache", "--fuse", request.param)
    try:
        yield Pair(tree, mnt / "tree")
    finally:
        lazyfs("umount", mnt)


def test_find(pair: Pair) -> None:
    assert pair.same(f"find . -mindepth 1 {LINES} | sort").count("\n") > 60
    pair.same(f"find . {LINES_OF_FILES} | sort")


def test_hardlinks_share_a_number(pair: Pair) -> None:
    assert os.stat(pair.mount / "hard").st_ino == os.stat(pair.mount / "repo/README").st_ino


def test_tar(pair: Pair) -> None:
    """The archives can be equal, because they do not contain the sizes of directories, which each filesystem
    chooses itself."""
    assert len(pair.same("tar --sort=name -cf - . | sha256sum")) > 60


def test_checksums(pair: Pair) -> None:
    pair.same("find . -type f -print0 | sort -z | xargs -0 sha256sum")


def test_rsync_finds_nothing_to_do(pair: Pair) -> None:
    command = ["rsync", "-naHAXi", "--checksum", f"{pair.tree}/", f"{pair.mount}/"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_cp(pair: Pair, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", pair.mount, tmp_path / "copy"], check=True)
    command = f"find . -mindepth 1 {LINES} | sort"
    assert shell(command, tmp_path / "copy") == shell(command, pair.tree)
    shutil.rmtree(tmp_path / "copy")


def test_git_sees_a_clean_repository(pair: Pair) -> None:
    git = "git -c safe.directory='*' -C repo"
    assert pair.same(f"{git} log --format=%H")
    assert pair.same(f"{git} diff HEAD --stat") == ""
    assert pair.same(f"GIT_OPTIONAL_LOCKS=0 {git} status --porcelain") == ""
    pair.same(f"{git} fsck")


def test_sqlite_reads_a_database(pair: Pair) -> None:
    found = pair.same(
        "sqlite3 'file:data.db?immutable=1' 'select a from t where b=144; select sum(b) from t'"
    )
    assert found.split()[0] == "12"
    pair.same("sqlite3 -readonly data.db 'pragma integrity_check'")


def test_programs_start(pair: Pair) -> None:
    assert "libc.so" in shell("ldd bin/ls | sed 's/(0x.*//'", pair.mount)
    assert pair.same("bin/ls -1 odd | wc -l") == "4\n"
    assert pair.same("bin/busybox echo works") == "works\n"


def test_python_imports(pair: Pair) -> None:
    assert pair.same(f"PYTHONPATH=. {sys.executable} -B -c 'import package; print(package.value)'") == "42\n"


def test_mmap_reads_what_read_reads(pair: Pair) -> None:
    with open(pair.mount / "big", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        expected = (pair.tree / "big").read_bytes()
        assert mapped[3_000_000:3_000_100] == expected[3_000_000:3_000_100]
        assert hashlib.sha256(mapped).digest() == hashlib.sha256(expected).digest()


def test_nothing_is_announced_to_inotify_by_reading(pair: Pair) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    changes = (
        0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400
    )  # modify, attrib, close_write, move, create, delete
    assert (
        libc.inotify_add_watch(
            watch, os.fsencode(pair.mount), struct.unpack("I", struct.pack("I", changes))[0]
        )
        > 0
    )
    shell("cat hard link; ls -la . odd", pair.mount)
    with pytest.raises(BlockingIOError):
        os.read(watch, 4096)
    os.close(watch)
