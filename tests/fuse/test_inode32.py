"""`--inode32`: 32-bit programs without large file support can stat and list a mount."""

import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.daemon.settings_input import check
from tests.support.cli import lazyfs, mounted
from tests.support.images import image, live
from tests.support.repository import Published

PROGRAM = r"""
/* stat(2) and getdents(2) of i386 as they were before large file support; needs no 32-bit C library. */
static int call(int number, const void *a, void *b, int c) {
    int answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "0"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return answer;
}
static char room[4096];
int looked(int *stack) {
    char **names = (char **)(stack + 1);
    int found = call(106, names[1], room, 0), folder, listed;
    if (found < 0) return -found;
    folder = call(5, names[2], (void *)0200000, 0);
    if (folder < 0) return -folder;
    while ((listed = call(141, (void *)folder, room, sizeof room)) > 0) ;
    return -listed;
}
__asm__(".globl _start\n_start: mov %esp, %eax\n push %eax\n call looked\n"
        "mov %eax, %ebx\n mov $1, %eax\n int $0x80\n");
"""
"""A 32-bit program that stats and lists a mount. Its exit code is 0, or the errno of the call that failed."""
EOVERFLOW = 75


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if platform.machine() != "x86_64":
        pytest.skip("the program is one of i386")
    directory = tmp_path_factory.mktemp("look")
    (directory / "look.c").write_text(PROGRAM)
    options = [
        "-m32",
        "-nostdlib",
        "-static",
        "-ffreestanding",
        "-fno-pic",
        "-no-pie",
        "-fno-stack-protector",
    ]
    built = ["gcc", *options, "-w", "-o", str(directory / "look"), str(directory / "look.c")]
    subprocess.run(built, check=True)
    return directory / "look"


@pytest.fixture
def published(tmp_path: Path) -> Published:
    found = Published(tmp_path)
    big = b"x" * (65 << 10)  # shared between images: a number of its own
    files = {f"{number}": b"%d" % number for number in range(600)}
    first, second = ({"d": files, "big": big, "own": name} for name in (b"a", b"b"))
    tree = {"a:1": image(found.objects, first), "a:2": image(found.objects, second)}
    found.commit(live(found.objects, tree))
    return found


def _walk(top: Path) -> Iterator[tuple[str, int, int]]:
    """Yields path, st_ino and d_ino of everything below."""
    for folder, names, files in os.walk(top):
        with os.scandir(folder) as entries:
            listed = {entry.name: entry.inode() for entry in entries}
        for name in (*names, *files):
            path = os.path.join(folder, name)
            yield path, os.lstat(path).st_ino, listed[name]


def test_numbers_are_short_and_each_files_own(published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c", "--inode32") as mnt:
        found = list(_walk(mnt))
        assert len(found) == 2 * (600 + 4)
        assert all(1 < number < 1 << 32 and number == listed for _, number, listed in found)
        numbers = {path: number for path, number, _ in found}
        assert numbers.pop(f"{mnt}/a:1/big") == numbers[f"{mnt}/a:2/big"]
        assert len(set(numbers.values())) == len(numbers)
        assert (mnt / "a:2/d/599").read_bytes() == b"599"
        with os.scandir(mnt / "a:1") as entries:
            assert sorted(entry.name for entry in entries) == ["big", "d", "own"]
        published.commit(live(published.objects, {}))
        lazyfs("refresh", mnt)
        assert list(_walk(mnt)) == []
        assert mnt.stat().st_ino == 1


def test_a_program_without_large_file_support(published: Published, tmp_path: Path, look: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c") as mnt:
        assert subprocess.run([look, mnt / "a:1/own", mnt / "a:1/d"], check=False).returncode == EOVERFLOW
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c", "--inode32") as mnt:
        assert subprocess.run([look, mnt / "a:1/own", mnt / "a:1/d"], check=False).returncode == 0
        assert subprocess.run([look, mnt, mnt / "a:2"], check=False).returncode == 0


def test_the_session_that_cannot_is_refused() -> None:
    with pytest.raises(UsageError, match="inode32 needs the direct session"):
        check({"source": "x", "inode32": True, "fuse": "pyfuse3"}, "here")
