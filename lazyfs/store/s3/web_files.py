"""Web files in a bucket: files that a web server serves beside a store, such as status pages. A file is
written only if its content differs from the bucket's, as the ETags in one listing show."""

import hashlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from lazyfs.store.s3.client import Client
from lazyfs.store.s3.store import AT_ONCE, WRITERS

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "atom": "application/atom+xml",
}
_CACHE = "public, max-age=60"


class BucketFiles:
    """Files below a folder of a store in a bucket. Implements WebFiles.

    It lists the bucket only once, so it is for one run of one writer. If several writers run, the last one
    wins.
    """

    def __init__(self, client: Client, folder: str) -> None:
        self.location = f"{client.location}/{folder}"
        self._client = client
        self._folder = folder

    def update(self, files: Mapping[str, bytes], *, durable: bool = True) -> None:  # noqa: ARG002 (always)
        changed = [(path, data) for path, data in files.items() if self._tags.get(path) != _tag(data)]
        with ThreadPoolExecutor(min(WRITERS, len(changed) or 1)) as pool:
            for _ in pool.map(self._write, changed):
                pass

    def below(self, folder: str) -> list[str]:
        return [path for path in self._tags if path.startswith(f"{folder.rstrip('/')}/")]

    def delete(self, paths: Collection[str]) -> None:
        keys = [f"{self._folder}/{path}" for path in paths]
        for at in range(0, len(keys), AT_ONCE):
            self._client.delete(keys[at : at + AT_ONCE])

    def _write(self, file: tuple[str, bytes]) -> None:
        path, data = file
        kind = _TYPES.get(path.rpartition(".")[2], "application/octet-stream")
        headers = {"Cache-Control": _CACHE, "Content-Type": kind}
        self._client.put(f"{self._folder}/{path}", data, None, headers)

    @cached_property
    def _tags(self) -> dict[str, str]:
        """Maps the path of each file that the bucket has to its ETag, without quotes."""
        listed = self._client.listing(self._folder)
        return {line.key.removeprefix(f"{self._folder}/"): (line.tag or "").strip('"') for line in listed}


def _tag(data: bytes) -> str:
    """Returns the ETag of a content that was uploaded whole: its MD5. Where the bucket encrypts, an ETag is
    something else, and every file is written at each run."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
