"""A guessed profile follows what Python and Perl programs import; nothing of the image is run."""

import json
import os
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from lazyfs.images.profiles import guessed, perl_modules, python_modules, python_places
from tests.publish.test_guessed_profiles import Guesses, program
from tests.support.elf_files import library
from tests.support.oci_images import entry

PYTHON = "usr/bin/python3.11"
LIBRARY = "usr/lib/python3.11"
SITE = f"{LIBRARY}/site-packages"
FAST = f"{SITE}/num/fast.cpython-311-x86_64-linux-gnu.so"
INTERPRETER = [program(PYTHON), entry("usr/bin/python3", b"2", linkname="python3.11")]


@pytest.fixture
def guesses(tmp_path: Path) -> Guesses:
    return Guesses(tmp_path)


def source(path: str, text: str = "", **fields: Any) -> tuple[Any, bytes]:
    return entry(path, data=f"# {path}\n{text}\n".encode(), **fields)


def extension(path: str, *names: str) -> tuple[Any, bytes]:
    """Returns an entry for an extension module whose strings are `names`, and which needs a library."""
    strings = b"\0".join(name.encode() for name in ("", *names, path))
    return entry(path, data=library([b"libx.so.1"]) + strings, mode=0o755)


def compiled(
    path: str, made_from: tuple[Any, bytes], *, flags: int = 0, stale: bool = False
) -> tuple[Any, bytes]:
    """Returns an entry for the .pyc file of a source."""
    folder, _, name = path.rpartition("/")
    header, data = made_from
    head = struct.pack("<4sIII", b"\xa7\r\r\n", flags, int(header.mtime) + stale, len(data))
    return entry(
        f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-311.pyc", data=head + path.encode()
    )


def modules(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if path not in (PYTHON, "usr/bin/env")]


def test_a_script_its_modules_and_theirs(guesses: Guesses) -> None:
    found = guesses.paths(
        *INTERPRETER,
        source(f"{LIBRARY}/os.py", "import abc"),
        source(f"{LIBRARY}/json/__init__.py", "from .decoder import Decoder\nimport abc"),
        source(f"{LIBRARY}/json/decoder.py", "import json.scanner, sys"),
        source(f"{LIBRARY}/json/scanner.py"),
        source(f"{LIBRARY}/unused.py"),
        source(f"{SITE}/num/__init__.py", "from . import core, lib as other, version_text\nversion_text = 1"),
        source(f"{SITE}/num/core/__init__.py", "from .. import fast\nfrom ..lib import helpers"),
        extension(FAST, "num.hidden", "secrets", "plain", "a b"),
        source(f"{SITE}/num/fast.py"),
        source(f"{SITE}/num/hidden.py"),
        source(f"{SITE}/num/lib/__init__.py"),
        source(f"{SITE}/num/lib/helpers.py", "def f():\n  import plain"),
        source(f"{SITE}/plain.py"),
        source(f"{LIBRARY}/secrets.py"),
        program("usr/lib/libx.so.1"),
        source("opt/job.py", "import json, num as n\nimport local\nn.lazy.f(n.core)"),
        source(f"{SITE}/num/lazy.py", "import num.other\nn.no"),
        source("opt/local.py"),
        source("srv/local.py"),
        Cmd=["python3", "-u", "-W", "ignore", "/opt/job.py", "/opt/local.py"], WorkingDir="/srv",
    )  # fmt: skip
    assert modules(found) == [
        "opt/job.py",
        f"{LIBRARY}/json/__init__.py", f"{LIBRARY}/json/decoder.py", f"{LIBRARY}/json/scanner.py",
        f"{SITE}/num/__init__.py", f"{SITE}/num/core/__init__.py",
        FAST, "usr/lib/libx.so.1",
        f"{SITE}/num/hidden.py", f"{LIBRARY}/secrets.py",
        f"{SITE}/num/lib/__init__.py", f"{SITE}/num/lib/helpers.py",
        "opt/local.py", f"{SITE}/num/lazy.py",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["python3", "-m", "app.run"], ["srv/app/__init__.py", "srv/app/run.py", "srv/app/inner.py"]),
        (["python3", "-Bm", "app"], ["srv/app/__init__.py", "srv/app/__main__.py", "srv/local.py"]),
        (["python3", "-c", "import local; print('x')"], ["srv/local.py"]),
        (["python3", "-X", "dev", "-"], []),
        (["python3", "/outside/job.py"], []),
        (["/usr/bin/env", "A=b", "python3", "job.py"], ["srv/job.py", "srv/local.py"]),
        (["env", "-S", "python3", "job.py"], ["srv/job.py", "srv/local.py"]),
        (["sh", "-c", "exec python3 job.py"], ["srv/job.py", "srv/local.py"]),
        (["tini", "--", "python3", "job.py"], ["srv/job.py", "srv/local.py"]),
        (["/srv/start"], ["srv/start", "srv/local.py"]),
    ],
)
def test_ways_to_start_a_program(guesses: Guesses, command: list[str], expected: list[str]) -> None:
    others = [program(f"usr/bin/{name}") for name in ("env", "sh", "tini")]
    found = guesses.paths(
        *INTERPRETER, *others,
        source("srv/app/__init__.py"), source("srv/app/__main__.py", "import local"),
        source("srv/app/run.py", "if __name__ == '__main__':\n  from .inner import x"),
        source("srv/app/inner.py"), source("srv/local.py"), source("srv/job.py", "import local"),
        entry("srv/start", data=b"#!/usr/bin/env python3\nimport local\n", mode=0o755),
        Cmd=command, WorkingDir="/srv", Env=["PATH=/usr/bin"],
    )  # fmt: skip
    assert [path for path in found if not path.startswith("usr/bin")] == expected
    assert PYTHON in found


def test_an_entry_point_that_starts_the_command(guesses: Guesses) -> None:
    found = guesses.paths(
        *INTERPRETER, program("wrapper"), source("job.py", "import local"), source("local.py"),
        Entrypoint=["/wrapper"], Cmd=["python3", "job.py"],
    )  # fmt: skip
    assert found == ["wrapper", PYTHON, "job.py", "local.py"]


def test_where_modules_are_looked_for(guesses: Guesses) -> None:
    """PYTHONPATH, the standard library, site directories of Debian and others, directories and code in .pth
    files; packages without __init__ in several directories."""
    places = ["opt/more", LIBRARY, f"{LIBRARY}/lib-dynload", SITE, "usr/local/lib/python3.11/dist-packages"]
    places += ["usr/lib/python3/dist-packages", f"{LIBRARY}/dist-packages", "opt/added", "opt/relative"]
    one_each = [source(f"{place}/m{number}.py") for number, place in enumerate(places)]
    first = [source(f"{place}/twice.py") for place in places]
    parts = [source(f"{place}/parts/p{number}.py") for number, place in enumerate(places[-2:])]
    names = [f"m{number}" for number in range(len(places))]
    found = guesses.paths(
        *INTERPRETER, *one_each, *first, *parts,
        entry(f"{SITE}/a.pth", data=b"# /opt/no\n/opt/added\n../../../../opt/relative\n/opt/none\n"),
        entry(f"{SITE}/b.pth", data=b"import m3; __import__('m4').x(); /opt/no\n"),
        source("opt/job.py", f"import {', '.join(names)}, twice, parts.p0, parts.p1, missing"),
        Cmd=["python3", "/opt/job.py"], Env=["PATH=/usr/bin", "PYTHONPATH=/opt/more:"],
    )  # fmt: skip
    assert modules(found) == [
        f"{places[3]}/m3.py", f"{places[4]}/m4.py", f"{SITE}/a.pth", f"{SITE}/b.pth", "opt/job.py",
        *(f"{place}/m{number}.py" for number, place in enumerate(places) if number not in (3, 4)),
        "opt/more/twice.py", "opt/added/parts/p0.py", "opt/relative/parts/p1.py",
    ]  # fmt: skip


@pytest.mark.parametrize("system", ["false", "true"])
def test_a_virtual_environment(guesses: Guesses, system: str) -> None:
    settings = f"home = /usr/bin\ninclude-system-site-packages = {system}\n"
    found = guesses.paths(
        *INTERPRETER,
        entry("opt/venv/bin/python", b"2", linkname="/usr/bin/python3"),
        entry("opt/venv/pyvenv.cfg", data=settings.encode()),
        source("opt/venv/lib/python3.11/site-packages/app.py", "import std, other"),
        source(f"{LIBRARY}/std.py"), source(f"{SITE}/other.py"), source(f"{SITE}/app.py"),
        entry("opt/venv/bin/app", data=b"#!/opt/venv/bin/python\nfrom app import main\n", mode=0o755),
        Entrypoint=["/opt/venv/bin/app"],
    )  # fmt: skip
    expected = ["opt/venv/bin/app", "opt/venv/lib/python3.11/site-packages/app.py", f"{LIBRARY}/std.py"]
    assert modules(found) == expected + ([f"{SITE}/other.py"] if system == "true" else [])


def test_compiled_modules_and_their_sources(guesses: Guesses) -> None:
    """A .pyc file is read alone if it fits its source, or says that nobody is to look."""
    wanted: list[str] = []
    entries = []
    kinds = {"fresh": (0, False), "stale": (0, True), "checked": (3, False), "unchecked": (1, True)}
    for name, (flags, stale) in kinds.items():
        made_from = source(f"{SITE}/{name}.py", mtime=1_700_000_000)
        made = compiled(f"{SITE}/{name}.py", made_from, flags=flags, stale=stale)
        entries += [made_from, made]
        wanted += [made[0].name] + ([made_from[0].name] if name in ("stale", "checked") else [])
    entries.append(entry(f"{SITE}/__pycache__/orphan.cpython-311.pyc", data=b"x" * 20))
    found = guesses.paths(
        *INTERPRETER, *entries, source("job.py", f"import {', '.join(kinds)}, orphan"),
        Cmd=["/usr/bin/python3", "job.py"],
    )  # fmt: skip
    assert modules(found) == ["job.py", *wanted]


def test_what_every_start_imports(guesses: Guesses) -> None:
    """The codecs, what a site adds, and, before Python 3.11, what is built into the interpreter since."""
    names = [
        "os.py",
        "io.py",
        "encodings/__init__.py",
        "encodings/aliases.py",
        "encodings/utf_8.py",
        "json.py",
    ]
    for minor, more in ((11, []), (10, ["io.py", "os.py"])):
        library = f"usr/lib/python3.{minor}"
        found = guesses.paths(
            program(f"usr/bin/python3.{minor}"),
            *(source(f"{library}/{name}") for name in names if name != "encodings/__init__.py"),
            source(f"{library}/encodings/__init__.py", "from . import aliases"),
            entry(f"{library}/sitecustomize.py", b"2", linkname="/etc/custom.py"),
            source("etc/custom.py", "try:\n  import missing\nexcept ImportError:\n  import json"),
            Cmd=[f"python3.{minor}"],
        )
        start = ["encodings/__init__.py", "encodings/aliases.py", "encodings/utf_8.py", *more]
        assert found[1:] == [*(f"{library}/{name}" for name in start), "etc/custom.py", f"{library}/json.py"]


def test_a_fallback_is_imported_only_in_place_of_what_is_missing(guesses: Guesses) -> None:
    found = guesses.paths(
        *INTERPRETER,
        source("job.py", "try:\n  import a, _thread\nexcept ImportError:\n  import b\n"
                         "try:\n  import missing\nexcept ImportError:\n  import c\n"),
        source("a.py"), source("b.py"), source("c.py"),
        Cmd=["python3", "job.py"],
    )  # fmt: skip
    assert modules(found) == ["job.py", "a.py", "c.py"]


def test_hostile_python_images_end(guesses: Guesses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that import each other, endless packages, links in a circle, a thousand .pth files, sources
    without end: the guess ends within its bounds."""
    monkeypatch.setattr(python_modules, "MODULES", 50)
    monkeypatch.setattr(python_places, "PATH_FILES", 3)
    many = [source(f"m{number}.py", f"import m{number + 1}, m0") for number in range(45)]
    missing = [f"no{number}" for number in range(500)]
    found = guesses.paths(
        *INTERPRETER, *many,
        entry("loop", b"2", linkname="loop"),
        entry("p.py", b"2", linkname="/"),
        entry("round/again", b"2", linkname="."),
        entry("round/__init__.py", data=b"import round" + b".again" * 4000 + b"\nfrom ......... import x"),
        *(entry(f"{SITE}/{at}.pth", data=b"/loop\n/..\n\xff\n\0\n%d\n" % at * 99) for at in range(9)),
        source("job.py", f"import {', '.join(missing)}, m0, loop, p, round"),
        Cmd=["python3", "job.py"],
    )  # fmt: skip
    assert len([path for path in found if path.startswith("m")]) == 45
    assert "round/__init__.py" in found
    assert len([path for path in found if path.endswith(".pth")]) == 3


@pytest.mark.parametrize(("bound", "most"), [("SOURCES", 9), ("NAMES", 20), ("MODULES", 20)])
def test_what_is_read_and_looked_for_is_bounded(
    guesses: Guesses, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(python_modules, bound, most)
    many = [source(f"m{number}.py", f"import m{number + 1}") for number in range(100)]
    found = guesses.paths(*INTERPRETER, *many, source("job.py", "import m0"), Cmd=["python3", "job.py"])
    assert 0 < len([path for path in found if path.startswith("m")]) <= most


def test_the_names_of_an_extension_and_the_parts_of_a_name_are_bounded(
    guesses: Guesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python_modules, "STRINGS", 3)
    monkeypatch.setattr(python_modules, "DEPTH", 3)
    names = [f"p.m{number}" for number in range(9)]
    named = [source(f"p/m{number}.py") for number in range(9)]
    found = guesses.paths(
        *INTERPRETER, extension("fast.so", *names), *named,
        *(source(f"{'q/' * depth}__init__.py") for depth in range(1, 6)),
        source("job.py", "import fast, q.q.q.q.q"), Cmd=["python3", "job.py"],
    )  # fmt: skip
    depths = [f"{'q/' * depth}__init__.py" for depth in (1, 2, 3)]
    assert modules(found) == ["job.py", "fast.so", "p/m0.py", "p/m1.py", "p/m2.py", *depths]


def test_the_files_of_a_guess_are_bounded(guesses: Guesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessed, "FILES", 20)
    many = [source(f"m{number}.py", f"import m{number + 1}") for number in range(100)]
    found = guesses.paths(*INTERPRETER, *many, source("job.py", "import m0"), Cmd=["python3", "job.py"])
    assert 15 < len(found) <= 21


def real_files(paths: Iterable[str]) -> list[tuple[Any, bytes]]:
    """Returns entries for files of this machine, and for the links on the way to them."""
    found: dict[str, tuple[Any, bytes]] = {}
    for path in paths:
        target = os.path.realpath(path)
        data, times = Path(target).read_bytes(), os.stat(target)
        found[target] = entry(target[1:], data=data, mode=0o755, mtime=int(times.st_mtime))
        for link in (Path(path), *Path(path).parents):
            if link.is_symlink() and link.parent.resolve() == link.parent:
                found[str(link)] = entry(str(link)[1:], b"2", linkname=os.readlink(link))
    return [found[path] for path in sorted(found)]


def test_a_real_python_reads_what_was_guessed(guesses: Guesses) -> None:
    """Of json, ctypes and email, all modules that a start of this machine's Python imports are found."""
    job = "import json, ctypes, email.message"
    tell = (
        f"{job}\nimport sys\nmodules = [m for m in sys.modules.values() if getattr(m, '__file__', None)]\n"
        "specs = [m.__spec__ for m in modules if m.__spec__ and m.__spec__.has_location]\n"
        "print(json.dumps([[spec.origin, spec.cached] for spec in specs]))"
    )
    python = "/usr/bin/python3"
    told = subprocess.run([python, "-IS", "-c", tell], check=True, capture_output=True, text=True).stdout
    pairs = json.loads(told)
    read = {cached if cached and os.path.exists(cached) else file for file, cached in pairs}
    files = {*read, *(file for file, _ in pairs), python}
    found = guesses.paths(*real_files(files), Cmd=[python, "-c", job])
    assert len(read) > 40
    assert {os.path.realpath(path) for path in read} <= {f"/{path}" for path in found}


def test_a_real_perl_reads_what_was_guessed(guesses: Guesses) -> None:
    """All modules that a Perl program loads are found, and the libraries of those that are compiled."""
    job = "use strict; use POSIX; use File::Temp; use Getopt::Long; use Data::Dumper;"
    tell = f'{job} print join("\\n", values %INC, @DynaLoader::dl_shared_objects)'
    told = subprocess.run(["perl", "-e", tell], check=True, capture_output=True, text=True, env={}).stdout
    read = told.split("\n")
    script = source("opt/job.pl", job)
    found = guesses.paths(*real_files([*read, "/usr/bin/perl"]), script, Cmd=["perl", "-w", "/opt/job.pl"])
    assert len(read) > 25
    missed = {os.path.realpath(path) for path in read} - {f"/{path}" for path in found}
    assert not missed


def test_of_what_a_perl_subroutine_may_load_no_more_of_that_kind_is_taken(guesses: Guesses) -> None:
    perl = entry("usr/bin/perl", data=library() + b"\0/perl\0", mode=0o755)
    loads = {"A": "sub f {\n  require B;\n}", "B": "use C;\nsub f {\n  require D;\n}", "C": "", "D": ""}
    modules = [source(f"perl/{name}.pm", text) for name, text in loads.items()]
    found = guesses.paths(perl, *modules, source("job.pl", "use A;"), Cmd=["perl", "job.pl"])
    assert found == ["usr/bin/perl", "job.pl", "perl/A.pm", "perl/B.pm", "perl/C.pm"]


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ([], "C.utf8"),
        (["LANG=de_DE.UTF-8", "LC_ALL="], "de_DE.utf8"),
        (["LANG=x", "LC_ALL=a.ISO-8859-1"], "a.iso88591"),
    ],
)
def test_locale_and_time_zone(guesses: Guesses, variables: list[str], folder: str) -> None:
    """Python reads the locale's characters, Perl all of the locale."""
    perl = entry("usr/bin/perl", data=library() + b"perl", mode=0o755)
    places = [f"usr/lib/locale/{name}" for name in ("C.utf8", "de_DE.utf8", "a.iso88591")]
    categories = ["LC_COLLATE", "LC_CTYPE", "LC_MESSAGES/SYS_LC_MESSAGES"]
    others = ["usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache", "usr/share/zoneinfo/UTC"]
    entries = [
        *INTERPRETER, perl, *(source(f"{place}/{name}") for place in places for name in categories),
        *map(source, others), entry("etc/localtime", b"2", linkname="/usr/share/zoneinfo/UTC"),
    ]  # fmt: skip
    env = ["PATH=/usr/bin", *variables]
    read = [f"usr/lib/locale/{folder}/{name}" for name in categories]
    assert guesses.paths(*entries, Cmd=["python3"], Env=env) == [PYTHON, read[1], *others]
    assert guesses.paths(*entries, Cmd=["perl"], Env=env) == ["usr/bin/perl", *read, *others]


def test_perls_command_line_and_search_path(guesses: Guesses) -> None:
    places = ("opt/i", "opt/env", "usr/share/perl5")
    perl = entry("usr/bin/perl5.36-x86_64", data=library() + b"\0/usr/share/perl5\0/none/perl\0", mode=0o755)
    found = guesses.paths(
        perl, entry("usr/bin/perl", b"2", linkname="perl5.36-x86_64"),
        *(source(f"{place}/{name}.pm") for place in places for name in "ABC"),
        source("usr/share/perl5/D.pm", "use parent 'E::F';"), source("usr/share/perl5/E/F.pm", "use D;"),
        extension("usr/share/perl5/auto/E/F/F.so"), program("usr/lib/libx.so.1"),
        entry("opt/env/C.pm", b"5"),
        Cmd=["perl", "-wI", "/opt/i", "-MA=x,y", "-I/none", "-e", "use B; use D;", "arg"],
        Env=["PERL5LIB=:/opt/env"],
    )  # fmt: skip
    assert found == [
        "usr/bin/perl5.36-x86_64", "opt/i/A.pm", "opt/i/B.pm", "usr/share/perl5/D.pm",
        "usr/share/perl5/E/F.pm", "usr/share/perl5/auto/E/F/F.so", "usr/lib/libx.so.1",
    ]  # fmt: skip


@pytest.mark.parametrize(("bound", "most"), [("MODULES", 20), ("SOURCES", 400)])
def test_hostile_perl_images_end(
    guesses: Guesses, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(perl_modules, bound, most)
    perl = entry("usr/bin/perl", data=library() + b"\0/perl\0" * 99 + b"/perl/../..\0", mode=0o755)
    many = [source(f"perl/M{number}.pm", f"use M{number + 1};\nuse M0;") for number in range(100)]
    found = guesses.paths(
        perl, *many, entry("perl/L.pm", b"2", linkname="L.pm"), source("job.pl", "use L;\nuse M0;"),
        Cmd=["perl", "job.pl"],
    )  # fmt: skip
    assert 10 < len(found) <= 25
