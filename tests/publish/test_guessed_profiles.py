"""If nobody has recorded a start, its profile is guessed from the image's command: programs, interpreters,
libraries, Python."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.core.params import Params
from lazyfs.core.profile import Origin, decode
from lazyfs.images.profiles import guessed, publish_profile
from lazyfs.images.profiles.published import profile_paths, published_profile
from tests.support.catalog_listing import open_tree
from tests.support.elf_files import library
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import NOW, Repository

PLACE = "r.example/app:1"
PROGRAM = Path("/usr/sbin/nginx")


class Guesses:
    """A repository in which each small file is an object of its own, for images with guessed profiles."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repository = Repository(directory, Params(pack_least=1, pack_target=1))
        self._count = 0

    def publish(self, *entries: tuple[Any, bytes], place: str = PLACE, **config: Any) -> None:
        """Publishes an image with these tar entries, and `config` as fields of its config."""
        self._count += 1
        layout = Built([layer(*entries)], config=config).write_layout(self.directory / f"l{self._count}")
        self.repository.publish(f"oci:{layout}", place=place, guess_profiles=True)

    def paths(self, *entries: tuple[Any, bytes], **config: Any) -> list[str]:
        """Publishes an image and returns the guessed paths in their order; an empty list without a guess."""
        self.publish(*entries, **config)
        tree = open_tree(self.repository.path)
        if self.plain() is None:
            return []
        return [path.decode() for path in profile_paths(tree, published_profile(tree, PLACE))]

    def plain(self, place: str = PLACE) -> bytes | None:
        tree = open_tree(self.repository.path)
        try:
            return tree.read(published_profile(tree, place).ref)
        except UsageError:
            return None


@pytest.fixture
def guesses(tmp_path: Path) -> Guesses:
    return Guesses(tmp_path)


def program(name: str, *needed: bytes, **fields: Any) -> tuple[Any, bytes]:
    """Returns an entry for an ELF file that needs these libraries. Its content is unique."""
    return entry(name, data=library([*needed, f"self-{name}".encode()], **fields), mode=0o755)


def test_a_real_program_and_the_libraries_that_ldd_names(guesses: Guesses) -> None:
    told = subprocess.run(["ldd", PROGRAM], check=True, capture_output=True, text=True).stdout
    needed = [Path(one) for one in re.findall(r"(/\S+) \(0x", told)]
    assert len(needed) > 5
    files = {os.path.realpath(path) for path in [PROGRAM, *needed]}
    links = {str(path) for path in needed} - files
    others = {f"/usr/lib/x86_64-linux-gnu/libother{number}.so" for number in range(5)}
    found = guesses.paths(
        *(entry(path[1:], data=Path(path).read_bytes(), mode=0o755) for path in sorted(files)),
        *(entry(path[1:], b"2", linkname=os.path.realpath(path)) for path in sorted(links)),
        *(entry(path[1:], data=os.urandom(1000)) for path in sorted(others)),
        Cmd=[PROGRAM.name, "-g", "daemon off;"],
    )
    assert {f"/{path}" for path in found} == files
    assert found[0] == str(PROGRAM)[1:]


def test_python_with_its_libraries_modules_and_the_script_that_it_starts(guesses: Guesses) -> None:
    library = "opt/lib/python3.11"
    codecs = {name: f"from . import aliases  # {name}" for name in ("aliases", "cp500", "utf_8", "__init__")}
    found = guesses.paths(
        program("opt/bin/python3.11", b"libpython3.11.so", b"libc.so.6", runpath=b"$ORIGIN/../lib"),
        entry("opt/bin/python3", b"2", linkname="python3.11"),
        program("opt/lib/libpython3.11.so", b"libm.so.6"),
        program("usr/lib64/libc.so.6"),
        program("opt/math/libm.so.6"),
        program("opt/lib/libunused.so"),
        entry("etc/ld.so.conf", data=b"include ld.so.conf.d/*.conf\n"),
        entry("etc/ld.so.conf.d/math.conf", data=b"/opt/math\n"),
        *(entry(f"{library}/encodings/{name}.py", data=text.encode()) for name, text in codecs.items()),
        entry(f"{library}/json.py", data=b"import os"),
        entry(f"{library}/os.py", data=b"import sys"),
        entry("srv/job.py", data=b"#!/usr/bin/env python3\nimport json\n", mode=0o755),
        entry("srv/other.py", data=b"#!/usr/bin/env python3\n", mode=0o755),
        program("usr/bin/env"),
        Entrypoint=["./job.py"], WorkingDir="/srv", Env=["PATH=/opt/bin:/usr/bin"],
    )  # fmt: skip
    assert found == [
        "srv/job.py", "usr/bin/env", "opt/bin/python3.11", "opt/lib/libpython3.11.so", "usr/lib64/libc.so.6",
        "opt/math/libm.so.6",
        *(f"{library}/encodings/{name}.py" for name in ("__init__", "aliases", "utf_8")),
        f"{library}/json.py",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "-c", "exec tool --option 'a b'"],
        ["/bin/sh", "-c", "tool && other"],
        ["/bin/sh", "/bin/tool"],
    ],
)
def test_a_shells_script_is_looked_into(guesses: Guesses, command: list[str]) -> None:
    found = guesses.paths(program("bin/sh"), program("bin/tool"), program("bin/unused"), Cmd=command)
    assert found == ["bin/sh", "bin/tool"]


@pytest.mark.parametrize(
    ("entries", "command"),
    [
        ([program("bin/a")], []),
        ([program("bin/a")], ["b"]),
        ([entry("bin", b"2", linkname="bin")], ["a"]),
        ([entry("bin/a", b"5")], ["a"]),
        ([entry("bin/a", data=b"x", mode=0o644)], ["a"]),
    ],
)
def test_an_image_without_a_program_gets_no_guess(
    guesses: Guesses, entries: list[tuple[Any, bytes]], command: list[str]
) -> None:
    assert guesses.paths(*entries, Cmd=command) == []


def test_hostile_programs_end(guesses: Guesses, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guess ends for scripts and libraries that lead to themselves, endless chains, and broken files."""
    monkeypatch.setattr(guessed, "FILES", 50)
    chain = [program(f"lib/l{at}.so", f"l{at + 1}.so".encode()) for at in range(200)]
    found = guesses.paths(
        entry("bin/a", data=b"#!/bin/b\n", mode=0o755),
        entry("bin/b", data=b"#! /bin/a /bin/b", mode=0o755),
        entry("bin/c", data=b"#!", mode=0o755),
        entry("bin/d", data=b"\x7fELF\2\1\1" + b"\xff" * 200, mode=0o755),
        program("bin/e", b"e", b"l0.so", b"../../../../etc/passwd", b"", runpath=b"/bin:/../../x:$ORIGIN"),
        *chain,
        Cmd=["a", "/bin/c", "/bin/d", "/bin/e", "'"],
    )
    assert found[:5] == ["bin/a", "bin/c", "bin/d", "bin/e", "bin/b"]
    assert 40 < len(found) <= 60


def test_of_large_files_some_parts_are_taken(guesses: Guesses, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program and the libraries that it names are listed whole up to DIRECT bytes, others up to WHOLE. Of a
    larger file, the first FIRST bytes are listed, and what the dynamic linker writes to."""
    monkeypatch.setattr(guessed, "WHOLE", 3 << 20)
    monkeypatch.setattr(guessed, "DIRECT", 4 << 20)

    def chunks(megabytes: int, place: str, *entries: tuple[Any, bytes]) -> int:
        """Returns how many of the chunks of a file are listed."""
        guesses.publish(
            entry("lib/large.so", data=large(megabytes), mode=0o755), *entries, place=place, Cmd=["/bin/a"]
        )
        found = published_profile(open_tree(guesses.repository.path), place).profile.contents()
        return len([ref for ref in found if ref.size == 1 << 20])

    def large(megabytes: int) -> bytes:
        return (library() + os.urandom(megabytes << 20))[: megabytes << 20]

    direct = program("bin/a", b"large.so")
    indirect = [program("bin/a", b"b.so"), program("lib/b.so", b"large.so")]
    assert [chunks(size, f"r.example/direct:{size}", direct) for size in (4, 5)] == [4, 2]
    assert [chunks(size, f"r.example/indirect:{size}", *indirect) for size in (3, 4)] == [3, 2]


def test_a_guess_is_marked_is_no_ones_heritage_and_yields_to_what_was_recorded(guesses: Guesses) -> None:
    guesses.publish(program("bin/a"), program("bin/b"), Cmd=["a"])
    plain = guesses.plain()
    assert plain is not None
    assert decode(plain).origin is Origin.GUESSED
    guesses.publish(program("bin/a"), program("bin/b"), Cmd=["b"])
    tree = open_tree(guesses.repository.path)
    assert profile_paths(tree, published_profile(tree, PLACE)) == [b"bin/b"]
    touched = {"": [ref.digest for ref in published_profile(tree, PLACE).profile.contents()]}
    publish_profile(guesses.repository.store, guesses.repository.keys, PLACE, touched, lambda: NOW)
    guesses.publish(program("bin/a"), program("bin/b"), program("bin/c"), Cmd=["a"])
    found = guesses.plain()
    assert found is not None
    assert decode(found).origin is Origin.INHERITED
