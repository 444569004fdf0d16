"""The less certain guesses: other libraries of a directory, and libraries that a program needs."""

from lazyfs.prefetch.libraries import FILES, LARGEST, Libraries
from lazyfs.prefetch.needed_libraries import NeededLibraries
from lazyfs.prefetch.neighbours import SMALL
from lazyfs.vfs.paths_in_images import FileInImage, find_file, place_of, siblings_at
from lazyfs.vfs.tree import Tree
from tests.support.elf_files import library
from tests.support.images import Objects, Spec, image, live, number, packed, shown


def large(mark: bytes, size: int = SMALL + 1) -> bytes:
    return mark.ljust(size, b"\0")


def holding(objects: Objects, spec: Spec) -> Tree:
    return shown(objects, live(objects, {"image": image(objects, spec)}))


def missed(libraries: Libraries, tree: Tree, path: str) -> list[bytes]:
    place = place_of(tree, number(tree, f"image/{path}"))
    assert place is not None
    around = siblings_at(tree, place, path.rpartition("/")[2].encode())
    assert around is not None
    return [entry.name for entry in libraries.missed(around)]


def test_the_first_missed_library_brings_the_others_once() -> None:
    objects = Objects()
    files = {f"{name}.so": large(name.encode()) for name in "abcd"}
    rest = {"data": large(b"data"), "huge.so": large(b"h", LARGEST + 1), "tiny.so": b"t"}
    tree = holding(objects, {"d": files | rest | packed(objects, {"packed.so": large(b"p")})})
    for path in ("d/c.so", "d/huge.so", "d/packed.so", "d/tiny.so"):
        libraries = Libraries()
        assert missed(libraries, tree, "d/data") == []
        found = missed(libraries, tree, path)
        assert sorted([*found, *([path[2:].encode()] if path == "d/c.so" else [])]) == [
            b"a.so", b"b.so", b"c.so", b"d.so"
        ]  # fmt: skip
        assert missed(libraries, tree, "d/a.so") == []
    assert missed(Libraries(), tree, "d/c.so") == [b"d.so", b"a.so", b"b.so"]


def test_libraries_of_a_version_are_left_to_those_who_need_them() -> None:
    names = ("a.so", "b.so", "liba.so.1", "libb.so.2.0")
    tree = holding(Objects(), {"lib": {name: large(name.encode()) for name in names}})
    libraries = Libraries()
    assert missed(libraries, tree, "lib/liba.so.1") == []
    assert missed(libraries, tree, "lib/a.so") == [b"b.so"]


def test_a_directory_of_very_many_libraries_is_no_package() -> None:
    for count, brought in ((FILES + 1, FILES), (FILES + 2, 0)):
        tree = holding(Objects(), {"lib": {f"{at:03}.so": large(b"%d" % at) for at in range(count)}})
        assert len(missed(Libraries(), tree, "lib/000.so")) == brought


def needed(objects: Objects, tree: Tree, path: str) -> list[bytes]:
    """Returns the paths, in the image, of the libraries that a file needs."""
    place = place_of(tree, number(tree, f"image/{path}"))
    assert place is not None
    entry, packs = tree.entry_and_packs(number(tree, f"image/{path}"))
    rule = NeededLibraries(tree, objects)
    file = FileInImage(entry, packs, place.directory)
    asked = rule.asked(file)
    assert asked is not None
    assert rule.asked(file) is None
    return [one.directory + b"/" + one.entry.name for one in rule.find(asked, place.directory, place.top)]


def test_what_a_program_needs_is_found_as_ld_so_finds_it() -> None:
    objects = Objects()
    program = library([b"liba.so.1", b"libc.so.6", b"libconf.so", b"none.so"], runpath=b"$ORIGIN/../x.libs")
    spec = {
        "app": {"bin": {"run": program}, "x.libs": {"liba.so.1": library([b"libc.so.6"])}},
        "lib": {"x86_64-linux-gnu": {"libc.so.6": "libc-2.36.so", "libc-2.36.so": library()}},
        "usr": {"lib": {"liba.so.1": library(), "libconf.so": library()}},
        "etc": {"ld.so.conf": b"include ld.so.conf.d/*.conf\n", "ld.so.conf.d": {"x.conf": b"/opt/conf\n"}},
        "opt": {"conf": {"libconf.so": library([b"x"])}},
    }
    tree = holding(objects, spec)
    assert needed(objects, tree, "app/bin/run") == [
        b"app/bin/../x.libs/liba.so.1",
        b"lib/x86_64-linux-gnu/libc-2.36.so",
        b"opt/conf/libconf.so",
    ]


def test_a_program_in_chunks_and_a_packed_one() -> None:
    objects = Objects()
    program = library([b"libc.so.6"])
    spec = {
        "large": program.ljust(200_000, b"\0"),
        "small": packed(objects, {"before": b"before", "run": program}),
        "lib64": {"libc.so.6": library()},
    }
    tree = holding(objects, spec)
    assert needed(objects, tree, "large") == [b"lib64/libc.so.6"]
    assert needed(objects, tree, "small/run") == [b"lib64/libc.so.6"]


def test_a_program_whose_section_is_not_here_yet_is_looked_at_later() -> None:
    objects = Objects()
    tree = holding(
        objects, {"run": library([b"libc.so.6"]).ljust(200_000, b"\0"), "lib": {"libc.so.6": b"c"}}
    )
    at = number(tree, "image/run")
    place = place_of(tree, at)
    assert place is not None
    entry, packs = tree.entry_and_packs(at)
    rule, file = NeededLibraries(tree, objects), FileInImage(entry, packs, b"")
    objects.here = set()
    assert rule.asked(file) is None
    objects.here = None
    asked = rule.asked(file)
    assert asked is not None
    (found,) = rule.find(asked, b"", place.top)
    again = find_file(tree, place.top, b"lib/libc.so.6")
    assert again is not None
    assert found.entry == again.entry
