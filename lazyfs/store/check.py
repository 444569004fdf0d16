"""Checks that every object which a revision leads to is in the store, whole and right."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from lazyfs.core import codec
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.errors import LazyfsError
from lazyfs.core.reach import ObjectKind, Reached, Seen, catalog_at, history_at, leads_to, profiles_at
from lazyfs.store.protocol import Store

MAX_PROBLEMS = 1000
"""The largest number of problems that are described; further ones are only counted."""

_AHEAD = 32
"""The largest number of objects that are being read, or were read and wait until those before them have been
dealt with."""


@dataclass
class CheckFindings:
    """The result of a check, so far or in the end."""

    objects: int = 0
    bytes: int = 0
    """Plaintext bytes of the objects that were read and verified so far."""
    stored_bytes: int = 0
    catalogs: int = 0
    entries: int = 0
    """The number of entries (names of files and directories) in the catalogs that were read."""
    bad: int = 0
    """The number of objects that are missing or wrong, and of files that are wrong in their packs."""
    problems: list[str] = field(default_factory=list)
    """One line each: a path that leads to the object, the object, and the reason."""


_Slices = dict[tuple[int, int, Digest], Reached]
"""The files of a pack: maps the (offset, size, digest) of each file to the first path that led to it."""


class _ReadObject(NamedTuple):
    """A verified object."""

    plain: bytes
    stored: int
    wrong: list[tuple[Reached, str]]
    """Files of a pack whose bytes do not have the digest that their entries state, each with a message."""


def check(
    store: Store,
    root: ObjectRef,
    *,
    history: ObjectRef | None = None,
    collected: ObjectRef | None = None,
    workers: int = 2,
    advance: Callable[[CheckFindings], None] = lambda _findings: None,
) -> CheckFindings:
    """Reads once each object that the root catalog, `history` (the head of a history) or `collected` (the
    list of collected profiles) leads to. Compares sizes and digests; in packs, also the digest of each file.

    A missing or wrong object is a finding, not an exception, and the objects that only it leads to are not
    looked at. Packs are read last, when all files in them are known. `advance` is called with the findings so
    far after every object.
    """
    run = _Check(store, advance)
    starts = [catalog_at(root), *([history_at(history)] if history else [])]
    starts += [profiles_at(collected)] if collected else []
    for start in starts:
        run.seen.first(start)
    with ThreadPoolExecutor(workers, "check") as pool:
        run.follow(starts, pool)
        run.follow([next(iter(slices.values())) for slices in run.packs.values()], pool)
    return run.findings


class _Check:
    """One check: the findings so far, and the packs that are still to be read."""

    def __init__(self, store: Store, advance: Callable[[CheckFindings], None]) -> None:
        self._store = store
        self._advance = advance
        self.findings = CheckFindings()
        self.seen = Seen()
        self.packs: dict[ObjectRef, _Slices] = {}

    def follow(self, waiting: list[Reached], pool: ThreadPoolExecutor) -> None:
        """Reads the `waiting` objects and all that they lead to, except packs: a pack that is not in
        `waiting` is only noted in `packs`, with the files that are to be verified in it."""
        running: deque[tuple[Reached, Future[_ReadObject]]] = deque()
        while waiting or running:
            while waiting and len(running) < _AHEAD:
                found = waiting.pop()
                slices = self.packs.get(found.ref, {}) if found.kind == ObjectKind.PACK else {}
                running.append((found, pool.submit(_read, self._store, found, slices)))
            found, future = running.popleft()
            try:
                read = future.result()
                if found.kind != ObjectKind.PACK or self.seen.first(found):
                    _count(self.findings, found, read)
                for wrong, problem in read.wrong:
                    self._problem(wrong, problem)
                waiting.extend(self._unread(leads_to(found, read.plain, profiles=True)))
            except LazyfsError as error:
                self._problem(found, str(error))
            self._advance(self.findings)

    def _unread(self, below: Iterable[Reached]) -> Iterator[Reached]:
        for found in below:
            if found.kind == ObjectKind.PACK:
                assert found.content is not None
                slices = self.packs.setdefault(found.ref, {})
                slices.setdefault((found.start, found.file_size, found.content), found)
            elif self.seen.first(found):
                yield found

    def _problem(self, found: Reached, problem: str) -> None:
        self.findings.bad += 1
        if len(self.findings.problems) < MAX_PROBLEMS:
            shown = found.path.decode(errors="backslashreplace") or "/"
            self.findings.problems.append(f"{shown}: {found.kind} {found.ref.digest.hex()}: {problem}")


def _read(store: Store, found: Reached, slices: _Slices) -> _ReadObject:
    """Reads and verifies an object; if it is a pack, also verifies the files in `slices`."""
    stored = store.get(found.ref.digest)
    plain = codec.open_object(stored, found.ref)
    view = memoryview(plain)
    wrong = []
    for (start, size, digest), file in slices.items():
        actual = sha256(view[start : start + size])
        if actual != digest:
            problem = (
                f"bytes {start} to {start + size} hash to {actual.hex()}, not to the file's {digest.hex()}"
            )
            wrong.append((file, problem))
    return _ReadObject(plain, len(stored), wrong)


def _count(findings: CheckFindings, found: Reached, read: _ReadObject) -> None:
    findings.objects += 1
    findings.bytes += len(read.plain)
    findings.stored_bytes += read.stored
    if found.kind == ObjectKind.CATALOG:
        findings.catalogs += 1
        # The root of a catalog appears as an entry of the catalog above.
        findings.entries += Catalog(read.plain).entries - 1
