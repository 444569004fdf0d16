"""Whether everything a repository's tree leads to is in the store, whole and right."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from lazyfs.core import bundle, codec, profile
from lazyfs.core.catalog.entry import Entry
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import FormatError, LazyfsError
from lazyfs.store.protocol import Store

MAX_PROBLEMS = 1000
"""Problems described; the others are only counted."""

_AHEAD = 32


@dataclass
class Findings:
    """What a check found."""

    objects: int = 0
    bytes: int = 0
    """Plaintext bytes of these objects."""
    stored_bytes: int = 0
    catalogs: int = 0
    entries: int = 0
    bad: int = 0
    problems: list[str] = field(default_factory=list)
    """One line each: object, what is wrong, and a path that leads to it."""


class _Job:
    """One object on its way through the pool, with what to do with its bytes once they are verified."""

    __slots__ = ("future", "kind", "path", "ref", "shift", "size")

    def __init__(
        self, future: "Future[tuple[bytes, int]]", ref: ObjectRef, path: bytes, kind: str, entry: Entry | None
    ) -> None:
        self.future = future
        self.ref = ref
        self.path = path
        self.kind = kind
        self.size = entry.size if entry else 0
        self.shift = entry.detail if entry else 0


def check(
    store: Store,
    root: ObjectRef,
    *,
    workers: int = 2,
    advance: Callable[[Findings], None] = lambda _findings: None,
) -> Findings:
    """Reads every object that the root catalog leads to, once, and compares sizes and digests.

    A missing or wrong object is a finding, not an exception; what it would have led to is not looked at.
    `advance` is called with the findings so far after every object.
    """
    findings = Findings()
    seen: set[Digest] = {root.digest}
    waiting: list[tuple[ObjectRef, bytes, str, Entry | None]] = [(root, b"", "catalog", None)]
    with ThreadPoolExecutor(workers, "check") as pool:
        running: list[_Job] = []
        while waiting or running:
            while waiting and len(running) < _AHEAD:
                ref, path, kind, entry = waiting.pop()
                read = _read_bundle if kind == "bundle" else _read
                running.append(_Job(pool.submit(read, store, ref), ref, path, kind, entry))
            job = running.pop(0)
            try:
                plain, stored = job.future.result()
                findings.objects += 1
                findings.bytes += len(plain)
                findings.stored_bytes += stored
                for ref, path, kind, entry in _leads_to(job, plain, findings):
                    if ref.digest not in seen:
                        seen.add(ref.digest)
                        waiting.append((ref, path, kind, entry))
            except LazyfsError as error:
                findings.bad += 1
                if len(findings.problems) < MAX_PROBLEMS:
                    shown = job.path.decode(errors="backslashreplace") or "/"
                    findings.problems.append(f"{shown}: {job.kind} {job.ref.digest.hex()}: {error}")
            advance(findings)
    return findings


def _read(store: Store, ref: ObjectRef) -> tuple[bytes, int]:
    frame = store.get(ref.digest)
    return codec.open_object(frame, ref), len(frame)


def _read_bundle(store: Store, ref: ObjectRef) -> tuple[bytes, int]:
    """A bundle's bytes as stored, every member verified; `ref.size` is the stored size."""
    stored = store.get(ref.digest)
    if len(stored) != ref.size:
        raise FormatError(f"bundle of {len(stored)} bytes instead of {ref.size}")
    reader = bundle.Reader(ref.digest)
    for _ in reader.feed(stored):
        pass
    reader.finish()
    return stored, len(stored)


def _leads_to(
    job: _Job, plain: bytes, findings: Findings
) -> Iterator[tuple[ObjectRef, bytes, str, Entry | None]]:
    if job.kind == "chunk list":
        chunks = ChunkList(plain, job.size, job.shift)
        for index in range(len(chunks)):
            yield chunks.chunk(index), job.path, "chunk", None
    elif job.kind == "profile":
        for one in profile.decode(plain):
            yield ObjectRef(one.name, one.stored), job.path, "bundle", None
    elif job.kind == "catalog":
        catalog = Catalog(plain)
        findings.catalogs += 1
        for number in range(catalog.directories):
            directory = catalog.directory(number)
            prefix = b"/".join(filter(None, (job.path, catalog.path(catalog.own_index(number)))))
            for entry in directory.entries:
                findings.entries += 1
                path = prefix + b"/" + entry.name if prefix else entry.name
                if entry.nested:
                    yield entry.nested, path, "catalog", None
                    profiled = profile.hinted(entry) if catalog.header.live else None
                    if profiled:
                        yield profiled, path, "profile", None
                elif entry.is_file and entry.whole:
                    yield entry.whole, path, "file content", None
                elif entry.is_file and entry.chunk_list:
                    yield entry.chunk_list, path, "chunk list", entry
