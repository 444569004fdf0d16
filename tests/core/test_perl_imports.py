"""The modules that Perl sources load; hostile bytes raise no exception."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core import perl_imports
from lazyfs.core.perl_imports import (
    LIBRARIES,
    MODULES,
    SOURCE,
    Loaded,
    extension_path,
    library_directories,
    loaded_modules,
    module_path,
)


def names(source: bytes) -> list[str]:
    return [one.name.decode() for one in loaded_modules(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("use strict;\nuse  A::B 1.2 qw(x y);\n\tuse C'D;\nuse E", ["strict", "A::B", "C'D", "E"]),
        ("use 5.010;\nuse v5.36;\nno warnings;\n# use A;\nuse B;", ["warnings", "B"]),
        (
            "use parent -norequire, 'A::B';\nuse base qw(C\n  D);\nuse E;",
            ["parent", "A::B", "base", "C", "D", "E"],
        ),
        ("require A;\nsub f {\n  require B;\n  use C;\n}\nrequire 5.006;", ["A", "B", "C"]),
        ("eval { require A };\nBEGIN { use B; }", ["A", "B"]),
        ("=head1 X\n\nuse A;\n\n=cut\n\nuse B;\n=pod\nuse C;", ["B"]),
        ("use A;\n__END__\nuse B;", ["A"]),
        ("use A;\r\nuse B;\r\n__DATA__\r\nuse C;", ["A", "B"]),
        ("use A; \nuse A;", ["A"]),
        ("user A;\nmy $x = 'use B';", []),
    ],
)
def test_what_a_source_loads(source: str, expected: list[str]) -> None:
    assert names(source.encode()) == expected


def test_what_a_subroutine_may_load_is_not_sure() -> None:
    source = (
        b"require A;\nsub f {\n  require B; require C;\n  use D;\n}\nuse C;\nuse File::Spec;\nrequire 5.006;"
    )
    sure = {"A": True, "B": False, "C": True, "D": True, "File::Spec": True, "File::Spec::Unix": True}
    assert loaded_modules(source) == [Loaded(name.encode(), is_sure) for name, is_sure in sure.items()]


def test_places_of_modules() -> None:
    assert module_path(b"A::B'C") == b"A/B/C.pm"
    assert extension_path(b"A::B") == b"auto/A/B/B.so"
    assert extension_path(b"POSIX") == b"auto/POSIX/POSIX.so"


def test_a_real_perl_names_the_directories_that_it_searches() -> None:
    command = ["perl", "-e", 'print join("\\n", @INC)']
    told = subprocess.run(command, check=True, capture_output=True, text=True, env={}).stdout.split("\n")
    found = [f"/{one.decode()}" for one in library_directories(Path("/usr/bin/perl").read_bytes())]
    assert len(told) > 5
    assert [one for one in found if one in told and "site_perl" not in one] == told[:-1]


@pytest.mark.parametrize(
    "searched",
    [
        ["etc/perl", "usr/local/lib/x86_64-linux-gnu/perl/5.36.0", "usr/local/share/perl/5.36.0",
         "usr/lib/x86_64-linux-gnu/perl5/5.36", "usr/share/perl5", "usr/lib/x86_64-linux-gnu/perl-base",
         "usr/lib/x86_64-linux-gnu/perl/5.36", "usr/share/perl/5.36"],
        ["usr/lib64/perl5/vendor_perl", "usr/share/perl5/vendor_perl", "usr/lib64/perl5", "usr/share/perl5"],
        ["usr/local/lib/perl5/site_perl/5.38.0", "usr/local/lib/perl5/vendor_perl/5.38.0",
         "usr/local/lib/perl5/5.38.0"],
    ],
)  # fmt: skip
def test_the_order_in_which_directories_are_searched(searched: list[str]) -> None:
    """Debian's, Fedora's and the official image's perl."""
    for order in (sorted(searched), sorted(searched, reverse=True)):
        program = "".join(f"\0/{one}\0" for one in order).encode()
        assert [one.decode() for one in library_directories(program)] == searched


PIECES = [
    b"use A;\n",
    b"use parent ",
    b"=pod\n",
    b"\n=cut\n",
    b"require ",
    b"__END__",
    b"BEGIN {",
    b"::",
    b"'",
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)), max_size=40).map(b"".join))
def test_any_bytes_give_names(source: bytes) -> None:
    for name, _ in loaded_modules(source):
        assert all(part.decode().isidentifier() for part in name.replace(b"'", b"::").split(b"::"))
        assert b".." not in module_path(name)
    assert all(not path.startswith(b"/") for path in library_directories(source))


@pytest.mark.parametrize(
    "piece", [b"use A;\n", b"use parent ", b"=a\n", b"\n=cut", b"use A", b"\0/perl", b"use A::"]
)
def test_hostile_sources_are_bounded(piece: bytes) -> None:
    source = piece * (3 * SOURCE // len(piece))
    assert len(loaded_modules(source)) <= 3
    assert len(library_directories(source)) <= 1


def test_sources_and_lists_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    many = range(MODULES + 100)
    assert len(loaded_modules(b"".join(b"use A%d;\n" % number for number in many))) == MODULES
    assert len(library_directories(b"\0" + b"".join(b"/perl%d\0" % number for number in many))) == LIBRARIES
    monkeypatch.setattr(perl_imports, "SOURCE", 9)
    assert names(b"use A;\nuse B;") == ["A"]
