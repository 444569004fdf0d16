"""Wrong settings, control requests and catalogs are either accepted or refused with a declared error.
Hypothesis searches for inputs that run more lines."""

import json
import stat
from collections.abc import Callable
from typing import Any

import msgspec
import pyfuse3
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lazyfs.core.catalog import layout
from lazyfs.core.catalog.entry import LIVE, NESTED
from lazyfs.core.chain.notation import DIRECT, parse_origins, parse_proxies, redact
from lazyfs.core.digest import ObjectRef, ref_of
from lazyfs.core.errors import FormatError, LazyfsError, UsageError
from lazyfs.daemon import control
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.settings_input import CENTURY, check, parse, with_absolute_paths
from lazyfs.fuse.pyfuse3_operations import entry_attributes
from lazyfs.fuse.wire import replies
from lazyfs.vfs.entries import Repository
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.missing_objects import Need
from lazyfs.vfs.operator_xattrs import get_xattr, list_xattrs
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.fuzzing import TIMEOUT, examples, for_seconds
from tests.support.hostile_catalogs import FILE_TYPES
from tests.support.images import Objects
from tests.support.lines_reached import led_by_lines

pytestmark = pytest.mark.timeout(TIMEOUT)
FUZZ = settings(max_examples=examples(300, 10_000), suppress_health_check=[HealthCheck.too_slow])

# settings

SCALARS = [
    *("true", "0", "-1", "1", "0.5", "1e308", "nan", "inf", "-inf", "4294967295", "9223372036854775808"),
    *("9" * 400, "9" * 5000, '""', '"a"', '"auto"', '"image"', '"fail"', '"wait"', '"lru"', '"4G"', '"0"'),
    *('"999999999T"', '"\\u0000"', '"\\uffff"', '"http://s/@repo@"', '"http://p:1|DIRECT"', '"/x"', '"./x"'),
    *("[]", "[[]]", "{}", "{a = 1}", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "[" * 3000),
]
FIELDS = [
    *Settings.__struct_fields__,
    "repositories.a",
    "repositories.a.url",
    "repositories.a.trust",
    '"x\\u0000"',
    "x",
]
lines = st.builds("{} = {}".format, st.sampled_from(FIELDS), st.sampled_from(SCALARS))
tables = st.builds(
    "[{}]".format,
    st.sampled_from(["repositories", 'repositories."b.example"', 'repositories."../c"', "x", "[]"]),
)
texts = (
    st.lists(lines | tables | st.text(max_size=20), max_size=8)
    .map("\n".join)
    .map(lambda text: text.encode("utf-8", "surrogatepass"))
)


@for_seconds
@FUZZ
@given(texts | st.binary(max_size=100))
def test_any_file_of_settings(text: bytes) -> None:
    with led_by_lines("lazyfs.daemon.settings_input"):
        try:
            fields = parse(text, "--config x")
            made = check({"source": "/s", **fields}, "--config x")
            absolute = with_absolute_paths(made)
        except UsageError as error:
            said = str(error)
        else:
            said = ""
    if said:
        assert said.startswith("--config x: ")
        return
    assert 0.01 <= absolute.refresh <= CENTURY
    assert "\0" not in json.dumps(msgspec.to_builtins(absolute), ensure_ascii=False)


# the proxies' and origins' notation

SECRET = "user:secret@"
PIECES = [
    *(
        "http",
        "https",
        "ftp",
        "://",
        "//",
        ":",
        "3128",
        "99999",
        "-1",
        "0",
        "\u0661",
        "|",
        ";",
        " ",
        "@repo@",
    ),
    *("DIRECT", "direct", "auto", "[", "]", "[::1]", "[v1.x]", "%00", "\0", "\n", "?", "#", "/", "..", "s"),
    *("\u00e9", "\udcff", "\u2100", "xn--", "a" * 300, "http://p", SECRET, f"http://{SECRET}p:"),
]


@for_seconds
@FUZZ
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_notation(text: str) -> None:
    with led_by_lines("lazyfs.core.chain.notation"):
        for read in (_proxies, _origins):
            said, members = "", []
            try:
                members = read(text)
            except UsageError as error:
                said = str(error)
            for member in members:
                assert member == DIRECT or member.startswith(("http://", "https://"))
                assert member.isascii()
                assert member.isprintable()
            assert "secret" not in said
            for member in members:
                # Of `http://p?user:secret@[` more is hidden than the account, and no URL is left.
                assert "@" not in redact(member).partition("://")[2].partition("/")[0]


def _proxies(text: str) -> list[str]:
    return [member for group in parse_proxies(text) for member in group]


def _origins(text: str) -> list[str]:
    return list(parse_origins(text, "r.example.org"))


# a line at the control socket

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
DO = ["pid", "echo", "fail", "break", "unwritable", "", "x"]
requests = st.fixed_dictionaries({}, optional={"do": st.sampled_from(DO) | json_values, "limit": json_values})
control_lines = st.one_of(
    requests.map(lambda value: json.dumps(value).encode()),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    st.sampled_from(
        [b"[" * 5000, b'{"do":' * 2000, b"9" * 5000, b'{"do": "pid", "x": ' + b"9" * 5000 + b"}", b"\xff"]
    ),
)


async def _pid(_: dict[str, Any]) -> dict[str, Any]:
    return {"pid": 1}


async def _echo(request: dict[str, Any]) -> dict[str, Any]:
    return request


async def _fail(_: dict[str, Any]) -> dict[str, Any]:
    raise UsageError("no")


async def _break(request: dict[str, Any]) -> dict[str, Any]:
    return {"x": request["limit"] + 1}


async def _unwritable(_: dict[str, Any]) -> dict[str, Any]:
    return {"x": object()}


HANDLERS = {"pid": _pid, "echo": _echo, "fail": _fail, "break": _break, "unwritable": _unwritable}


@for_seconds
@FUZZ
@given(control_lines, st.booleans())
def test_any_line_at_the_control_socket(line: bytes, ended: bool) -> None:
    async def ask() -> bytes:
        mine, theirs = trio.socket.socketpair()
        answer = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(control._answer, trio.SocketStream(theirs), HANDLERS, 60.0)
            stream = trio.SocketStream(mine)
            await stream.send_all(line + b"\n" * ended)
            await stream.send_eof()
            async for part in stream:
                answer += part
            await stream.aclose()
        return answer

    with led_by_lines("lazyfs.daemon.control"):
        answer = trio.run(ask)
    assert answer.endswith(b"\n")
    found = json.loads(answer)
    assert isinstance(found["ok"], bool | int | str | list | dict | float | None)
    assert found["ok"] is not False or found["error"]


# from a catalog's bytes to the answers that the kernel gets

EXTREMES = [
    0,
    1,
    12,
    16,
    20,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**44,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -1,
    -(2**31),
    -(2**63),
]
numbers = st.sampled_from(EXTREMES) | st.integers(-5, 5)
modes = st.builds(
    int.__or__, st.sampled_from([*FILE_TYPES, 0o170000]), st.sampled_from([0, 0o755, 0o7777, 2**31])
)
XATTRS = [[], [[b"user.x", b"y"]], [[b"trusted.overlay.opaque", b"y"]], [[b"user.lazyfs.profile", b"z" * 40]]]
entries = st.tuples(
    st.sampled_from([b"a", b"b", b"c", b"..", b"", b"/", b"x" * 255, b"x" * 256, b"\0", b"\xff", b"l.so"]),
    modes,
    *(numbers, numbers, numbers, numbers),  # uid, gid, mtime, size
    st.sampled_from([b"", b"t", bytes(32), b"x" * 31, b"a\0", b"../" * 2000, "self"]),
    *(numbers, numbers, numbers),  # detail, nlink, link
    st.sampled_from([0, 0, 0, NESTED, LIVE, NESTED | LIVE, 2**32 - 1]),
    st.sampled_from(XATTRS),
).map(list)
good_names = st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), unique=True, max_size=4).map(sorted)


@st.composite
def catalogs(draw: st.DrawFn) -> tuple[Objects, ObjectRef]:
    """Draws a root catalog of some directories. Each field is drawn from its extremes; the names are mostly
    in order."""
    encode = msgspec.msgpack.encode
    directories = []
    for _ in range(draw(st.integers(1, 3))):
        listed = []
        for name in draw(good_names):
            entry = draw(entries)
            listed.append([name if draw(st.integers(0, 9)) else entry[0], *entry[1:]])
        directories.append(listed)
    total = sum(map(len, directories)) + 1
    objects = Objects()
    nested = objects.put(b"not a catalog")
    for entry in (entry for listed in directories for entry in listed):
        if entry[6] == "self":
            entry[6] = nested
    root = [b"", stat.S_IFDIR | 0o755, 0, 0, 0, 4096]
    shared = draw(
        st.lists(
            st.tuples(st.integers(0, 9), st.sampled_from([b"a", b"a/b", b"", b"/", b"../x"])), max_size=2
        )
    )
    header = encode([root, draw(st.booleans()), [total, 0, 0], [], [list(pair) for pair in shared]])
    blobs = [encode(listed) for listed in directories]
    firsts, offsets = [1], [0]
    for listed, blob in zip(directories, blobs, strict=True):
        firsts.append(firsts[-1] + len(listed))
        offsets.append(offsets[-1] + len(blob))
    size = len(directories)
    small = st.integers(0, total)
    columns = [
        offsets[:size],
        [len(blob) for blob in blobs],
        firsts[:size],
        [0, *(draw(small) for _ in range(size - 1))],
        [0, *(draw(st.integers(0, size)) for _ in range(size - 1))],
    ]
    table = b"".join(number.to_bytes(4, "little") for column in columns for number in column)
    prefix = layout.PREFIX.pack(layout.MAGIC, layout.VERSION, len(header), size, total)
    plain = prefix + header + table + b"".join(blobs)
    objects.put(plain)
    return objects, ref_of(plain)


def _tell(objects: Objects, ref: ObjectRef) -> None:
    """Makes every kind of kernel request to a mount's root and to each entry in it."""
    tree = Tree(SlotTable())
    tree.show_repository(Repository("test", objects, ref, 1))
    waiting, seen = [ROOT], {ROOT}
    while waiting and len(seen) < 50:
        at = waiting.pop()
        calls: list[Callable[[], object]] = [
            lambda at=at: replies.attr(tree.getattr(at)),  # type: ignore[misc]
            lambda at=at: entry_attributes(tree.getattr(at)),  # type: ignore[misc]
            lambda at=at: tree.readlink(at),  # type: ignore[misc]
            lambda at=at: tree.parent(at),  # type: ignore[misc]
            lambda at=at: tree.path_of(at),  # type: ignore[misc]
            lambda at=at: list_xattrs(tree, at),  # type: ignore[misc]
            lambda at=at: [
                get_xattr(tree, at, name) for name in (b"user.chunks", b"user.path", b"user.digest")
            ],  # type: ignore[misc]
        ]
        for call in calls:
            try:
                call()
            except (OSError, LazyfsError, Need):
                continue
        try:
            children = list(tree.listing(at))
        except (OSError, LazyfsError, Need):
            continue
        for place, (name, found) in enumerate(children):
            replies.direntplus(found, place + 3, name)
            replies.entry(found)
            replies.dirent(found.number, found.mode, place + 3, name)
            entry_attributes(found)
            tree.hold(found.number)
            if found.number not in seen:
                seen.add(found.number)
                waiting.append(found.number)


@for_seconds
@FUZZ
@given(catalogs())
def test_any_catalog_is_told_to_the_kernel_or_refused(catalog: tuple[Objects, ObjectRef]) -> None:
    objects, ref = catalog
    with led_by_lines(
        "lazyfs.core.catalog.reader", "lazyfs.core.catalog.entry", "lazyfs.vfs.tree", "lazyfs.vfs.attributes"
    ):
        try:
            _tell(objects, ref)
        except FormatError:
            return


def test_what_pyfuse3_takes_for_a_device_is_asked_of_it() -> None:
    """The test above also runs pyfuse3's own conversion of attributes. This shows that the conversion raises
    for a device number that is too large."""
    with pytest.raises(OverflowError):
        pyfuse3.EntryAttributes().st_rdev = 1 << 70
