"""Conditional writes of the few names that change, and the proof that the bucket honours conditions.

Two publishers of one store are kept apart by If-None-Match and If-Match alone. A bucket that ignores these
conditions would lose commits unnoticed. So each process tests the bucket before its first write and after
each commit, by two writes that must be refused.

If the answer to a successful write is lost, the retry is refused because of that success. The content that is
there afterwards then shows if the write was made.
"""

import secrets
import threading

from lazyfs.core.errors import UsageError
from lazyfs.core.trust.roles import CHANGING_FILES, TIMESTAMP, file_name
from lazyfs.store.origin_server import FOREVER, TIMESTAMP_CACHE
from lazyfs.store.protocol import StoreConflict, StoreError
from lazyfs.store.s3.client import REPLACED, WRITE, Client, Content, Unsupported

PROBE = ".conditions"
"""The key that is written to test conditions. Nobody reads it for its content."""
_COMMIT = file_name(TIMESTAMP, 0)
_CHANGING = {**dict.fromkeys(CHANGING_FILES, TIMESTAMP_CACHE), "collection.json": "no-store"}
"""Maps the name of each file that is replaced to its Cache-Control header, which limits how long a proxy
keeps the file."""
_LIES_THERE = b"the name that lazyfs writes under conditions, to see that the bucket honours them"
_TRIES = 5
_NO_TAG = '"00000000000000000000000000000000"'


class Metadata:
    """The files under metadata/ of one store. Thread-safe."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._mutex = threading.Lock()
        self._proven = False
        self._quoted = True
        self._seen: dict[str, Content] = {}
        """The content that was last read or written under each changing name, with its ETag."""

    def read(self, name: str) -> bytes | None:
        """Returns the content of a file under metadata/, None if there is certainly none. Raises
        StoreError."""
        found = self._read(name)
        return None if found is None else found.data

    def write(self, name: str, data: bytes, expected: bytes | None) -> None:
        """Writes a file under metadata/ if it now holds `expected`, as Store.write_metadata states. Before
        the first write and after each commit, makes sure that the bucket honours conditions."""
        self._prove_once()
        before = None if expected is None else self._expected(name, expected)
        condition = "create" if before is None else self._tag(before.tag)
        headers = {"Cache-Control": _CHANGING.get(name, FOREVER), "Content-Type": "application/json"}
        replaced = (before and before.write) or "nothing"
        mine = self._put(metadata_key(name), data, condition, headers | {REPLACED: replaced})
        if mine is None:
            raise self._overtaken(name)
        if name == _COMMIT:
            after = self._read(name)
            self.prove()
            if after is None or (after.write != mine and after.replaced == replaced):
                raise self._unfit("let another publisher overwrite a commit")

    def _put(self, key: str, data: bytes, condition: str, headers: dict[str, str]) -> str | None:
        """Stores `data` under a key if the condition holds. Returns the random text that marks this write, or
        None if the condition did not hold."""
        mine = secrets.token_hex(8)
        try:
            written = self._client.put(key, data, condition, headers | {WRITE: mine})
        except Unsupported:
            raise
        except StoreError:
            if not self._is_there(key, mine):
                raise
            return mine
        if written is None:
            written = self._is_there(key, mine)
        return mine if written else None

    def _is_there(self, key: str, write: str) -> bool:
        """Returns True if the key has the content of the write that the random text `write` marks."""
        found = self._client.get(key)
        return found is not None and found.write == write

    def prove(self) -> None:
        """Makes two writes that the bucket must refuse. Raises UsageError if it accepts one."""
        for header, condition in (("If-None-Match", "create"), ("If-Match", self._tag(_NO_TAG))):
            if self._try(condition, b"written against its condition"):
                raise self._unfit(f"does not honour {header}")

    def _prove_once(self) -> None:
        with self._mutex:
            if self._proven:
                return
            self._try("create", _LIES_THERE)
            self._find_form()
            self.prove()
            self._proven = True

    def _find_form(self) -> None:
        """Finds out if conditions must state ETags with their quotes or without them: Ceph until version 18
        compares the text without quotes."""
        for _ in range(_TRIES):  # others may write it too, and where it is encrypted each write has a new tag
            found = self._client.get(PROBE)
            if found is None or found.tag is None:
                break
            for self._quoted in (True, False):
                if self._try(self._tag(found.tag), _LIES_THERE):
                    return
        raise self._unfit("refuses If-Match where it holds")

    def _try(self, condition: str, data: bytes) -> bool:
        """Writes to the key PROBE under a condition; returns True if the bucket accepted the write."""
        try:
            return self._put(PROBE, data, condition, {}) is not None
        except Unsupported as error:
            raise self._unfit(f"refuses conditional writes ({error})") from None

    def _tag(self, tag: str | None) -> str:
        text = tag or ""
        return f"tag:{text if self._quoted else text.strip(chr(34))}"

    def _expected(self, name: str, expected: bytes) -> Content:
        """Returns the present content of a file under metadata/. Raises StoreConflict if it is not
        `expected`."""
        found = self._seen.get(name)
        if found is None or found.data != expected:
            found = self._read(name)
        if found is None or found.data != expected:
            raise self._overtaken(name)
        return found

    def _read(self, name: str) -> Content | None:
        found = self._client.get(metadata_key(name))
        if found is not None and name in _CHANGING:
            self._seen[name] = found
        return found

    def _overtaken(self, name: str) -> StoreConflict:
        return StoreConflict(
            f"store {self._client.location} has another metadata/{name} already: another publisher was "
            "first; publish again"
        )

    def _unfit(self, reason: str) -> UsageError:
        return UsageError(
            f"store {self._client.location}: the bucket {reason}, so that two publishers would overwrite "
            "each other unseen: use a bucket without versioning on a server that honours If-None-Match and "
            "If-Match of PUT (AWS S3, Ceph, MinIO); if it did before, see the last commits: lazyfs log"
        )


def metadata_key(name: str) -> str:
    """Returns the key of a file under metadata/. Raises ValueError for a name outside it."""
    if not name or "/" in name or name.startswith("."):
        raise ValueError(f"{name!r} is no metadata name")
    return f"metadata/{name}"
