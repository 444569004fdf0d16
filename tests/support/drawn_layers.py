"""Stacks of layers drawn by Hypothesis: files, links, devices and whiteouts at few paths, so that they
collide."""

import os
import tarfile
from typing import Any

from hypothesis import strategies as st

from tests.support.oci_images import entry

NAMES = st.sampled_from(["a", "b", "c", "d", os.fsdecode(b"\xff")])
PATHS = st.builds(
    lambda parents, name: "/".join([*parents, name]), st.lists(st.sampled_from("ab"), max_size=2), NAMES
)
"""Few names, so that layers collide. Parents have even fewer, so that fewer stacks are refused."""
MODES = st.sampled_from([0o644, 0o755, 0, 0o4755, 0o2711, 0o1777, 0o7777])
TIMES = st.sampled_from(["0", "1.5", "1234567890.123456789", "1700000000", "-1.25"])
OWNERS = st.sampled_from([0, 1, 1000, 65534, 100_000, (1 << 31) + 9])
XATTRS = st.dictionaries(
    st.sampled_from(["user.one", "user.two", "trusted.three"]), st.sampled_from(["", "v", "=x\n"]), max_size=2
)
TARGETS = st.one_of(PATHS, PATHS.map("/".__add__), st.sampled_from([".", "/", "a/.", "../a", "b/../c"]))


def _metadata(draw: st.DrawFn, *, xattrs: bool) -> dict[str, Any]:
    pax = {"mtime": draw(TIMES)}
    if xattrs:
        pax |= {f"SCHILY.xattr.{name}": value for name, value in draw(XATTRS).items() if value}
    return {"mode": draw(MODES), "uid": draw(OWNERS), "gid": draw(OWNERS), "pax": pax}


@st.composite
def entries(draw: st.DrawFn, files: list[str]) -> tuple[Any, bytes]:
    """Draws one entry; `files` are the paths of the files and links drawn before."""
    path = draw(PATHS)
    kind = draw(st.sampled_from("ffffdddlhhpcwwoor"))
    if kind in "flpc":
        files.append(path)
    if kind == "d":
        return entry(path, tarfile.DIRTYPE, **_metadata(draw, xattrs=True))
    if kind == "r":
        return entry("./", tarfile.DIRTYPE, **_metadata(draw, xattrs=False))
    if kind == "l":
        return entry(path, tarfile.SYMTYPE, linkname=draw(TARGETS), **_metadata(draw, xattrs=False))
    if kind == "h" and files:
        return entry(
            path, tarfile.LNKTYPE, linkname=draw(st.sampled_from(files)), **_metadata(draw, xattrs=False)
        )
    if kind == "p":
        return entry(path, tarfile.FIFOTYPE, **_metadata(draw, xattrs=False))
    if kind == "c":
        minor = draw(st.sampled_from([3, 300]))
        return entry(path, tarfile.CHRTYPE, devmajor=1, devminor=minor, **_metadata(draw, xattrs=False))
    if kind in "wo":
        parent, _, name = path.rpartition("/")
        prefix = f"{parent}/" if parent else ""
        return entry(prefix + (".wh..wh..opq" if kind == "o" else f".wh.{name}"))
    return entry(path, data=draw(st.binary(max_size=3)), **_metadata(draw, xattrs=True))


@st.composite
def stacks(draw: st.DrawFn) -> list[list[tuple[Any, bytes]]]:
    files: list[str] = []
    return [
        [draw(entries(files)) for _ in range(draw(st.integers(0, 10)))]
        for _ in range(draw(st.integers(1, 3)))
    ]
