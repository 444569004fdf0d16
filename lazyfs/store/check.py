"""Checks that every object which a revision leads to is in the store, whole and right."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from lazyfs.core import bundle, codec
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import FormatError, LazyfsError
from lazyfs.core.reach import ObjectKind, Reached, Seen, catalog_at, leads_to
from lazyfs.store.protocol import Store

MAX_PROBLEMS = 1000
"""Problems described; the others are only counted."""

_AHEAD = 32
"""Objects read ahead of the one whose contents are followed."""


@dataclass
class CheckFindings:
    """The result of a check, so far or in the end."""

    objects: int = 0
    bytes: int = 0
    """Plaintext bytes of these objects."""
    stored_bytes: int = 0
    catalogs: int = 0
    entries: int = 0
    """Names in these catalogs."""
    bad: int = 0
    """Objects that are missing or wrong."""
    problems: list[str] = field(default_factory=list)
    """One line each: a path that leads to the object, the object, and the reason."""


def check(
    store: Store,
    root: ObjectRef,
    *,
    workers: int = 2,
    advance: Callable[[CheckFindings], None] = lambda _findings: None,
) -> CheckFindings:
    """Reads every object that the root catalog leads to, once, and compares sizes and digests.

    A missing or wrong object is a finding, not an exception, and the objects that only it leads to are not
    looked at. `advance` is called with the findings so far after every object.
    """
    findings = CheckFindings()
    seen = Seen()
    start = catalog_at(root)
    seen.first(start)
    waiting = [start]
    running: deque[tuple[Reached, Future[tuple[bytes, int]]]] = deque()
    with ThreadPoolExecutor(workers, "check") as pool:
        while waiting or running:
            while waiting and len(running) < _AHEAD:
                found = waiting.pop()
                running.append((found, pool.submit(_read, store, found)))
            found, future = running.popleft()
            try:
                plain, stored = future.result()
                _count(findings, found, plain, stored)
                waiting.extend(below for below in leads_to(found, plain, profiles=True) if seen.first(below))
            except LazyfsError as error:
                findings.bad += 1
                if len(findings.problems) < MAX_PROBLEMS:
                    shown = found.path.decode(errors="backslashreplace") or "/"
                    findings.problems.append(f"{shown}: {found.kind} {found.ref.digest.hex()}: {error}")
            advance(findings)
    return findings


def _read(store: Store, found: Reached) -> tuple[bytes, int]:
    """Returns an object's verified plaintext and its stored size; of a bundle the stored bytes."""
    stored = store.get(found.ref.digest)
    if found.kind == ObjectKind.BUNDLE:
        _verify_bundle(stored, found.ref)
        return stored, len(stored)
    return codec.open_object(stored, found.ref), len(stored)


def _verify_bundle(stored: bytes, ref: ObjectRef) -> None:
    """Verifies every member of a bundle. `ref.size` is the stored size. Raises BadData."""
    if len(stored) != ref.size:
        raise FormatError(f"bundle of {len(stored)} bytes instead of {ref.size}")
    reader = bundle.Reader(ref.digest)
    for _ in reader.feed(stored):
        pass
    reader.finish()


def _count(findings: CheckFindings, found: Reached, plain: bytes, stored: int) -> None:
    findings.objects += 1
    findings.bytes += len(plain)
    findings.stored_bytes += stored
    if found.kind == ObjectKind.CATALOG:
        findings.catalogs += 1
        findings.entries += Catalog(plain).entries - 1  # its root appears as an entry of the catalog above
