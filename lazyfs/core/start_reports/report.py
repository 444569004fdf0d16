"""A report of the objects that the first start of an image on one mount touched.

A report names paths inside the image and digests of objects, and nothing of the worker: no user, no argument,
no path outside the image. It is a msgpack array: version, repository, digest of the image's top catalog, path
of the program, files. The files are in the order of their first reads, each once, with its path and the
digests of the objects that hold what was read.
"""

from typing import Annotated, Final

import msgspec

from lazyfs.core import bounds
from lazyfs.core.digest import SIZE as DIGEST_SIZE
from lazyfs.core.digest import Digest
from lazyfs.core.errors import FormatError

VERSION: Final = 1
MOST_BODY: Final = 4 << 20
"""The largest number of bytes of a report: a start of 20,000 files with paths of 100 bytes takes 2.7 MB."""
MOST_FILES: Final = 20_000
MOST_OBJECTS: Final = 1 << 16
"""The largest number of objects of a report, as many as a profile may list."""

_Path = Annotated[bytes, msgspec.Meta(min_length=1, max_length=bounds.PATH)]
_Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_SIZE, max_length=DIGEST_SIZE)]


class TouchedFile(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A file of an image that a start read, and the objects that hold what was read."""

    path: _Path
    """Below the image's root, without a leading /."""
    objects: Annotated[tuple[_Digest, ...], msgspec.Meta(min_length=1, max_length=MOST_OBJECTS)]


class StartReport(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One report."""

    version: int
    repository: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    image: _Digest
    program: _Path
    """The executable that the start read first, as a path below the image's root."""
    touched: Annotated[tuple[TouchedFile, ...], msgspec.Meta(min_length=1, max_length=MOST_FILES)]


_decoder = msgspec.msgpack.Decoder(StartReport)


def encode(report: StartReport) -> bytes:
    """Returns the body of the HTTP request that sends a report."""
    return msgspec.msgpack.encode(report)


def decode(body: bytes) -> StartReport:
    """Returns the report that the body of an HTTP request holds. Raises FormatError."""
    if len(body) > MOST_BODY:
        raise FormatError(f"a report of {len(body)} bytes is over {MOST_BODY}")
    try:
        report = _decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FormatError(f"bad report: {error}") from None
    if report.version != VERSION:
        raise FormatError(f"report of version {report.version}, not {VERSION}")
    if sum(len(file.objects) for file in report.touched) > MOST_OBJECTS:
        raise FormatError(f"a report names more than {MOST_OBJECTS} objects")
    if len({file.path for file in report.touched}) < len(report.touched):
        raise FormatError("a report names a file twice")
    for path in (report.program, *(file.path for file in report.touched)):
        if not is_inner(path):
            raise FormatError(f"a report has the path {path[:100]!r}, which is none inside an image")
    return report


def is_inner(path: bytes) -> bool:
    """Returns True for a plain path below an image's root: no empty, `.` or `..` part, no NUL."""
    return b"\0" not in path and not {b"", b".", b".."} & set(path.split(b"/"))


def digests(file: TouchedFile) -> list[Digest]:
    """Returns the objects of a file as digests."""
    return [Digest(one) for one in file.objects]
