"""A session over objects in a directory, in a process of its own, controlled by a test.

`python -m tests.support.fuse_server SESSION MOUNTPOINT OBJECTS ROOT SIZE PERMISSIONS` prints `ready`, then
answers each line of JSON on stdin with one on stdout. Each object is a file named by its hex digest. A test
can hold back fetches, count them, switch the revision and read the counters.
"""

import json
import os
import sys
import threading
from typing import Any

import trio

from lazyfs.core.digest import Digest, ObjectRef, check
from lazyfs.core.errors import LazyfsError, NotFound
from lazyfs.daemon.session_choice import make_session
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.invalidation import Invalidator
from lazyfs.fuse.open_repository import OpenRepository
from lazyfs.fuse.session import MountOptions
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.filesystems import AskedAhead, no_site


class SlowObjects:
    """Objects that are available once they have been fetched, unless `keep` is off. A fetch waits for `go`.

    Concurrent requests for one object share one fetch, as in `client.objects.Objects`.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.namespace = b""
        self._here: dict[Digest, bytes] = {}
        self.keep = True
        self.everything_here = True
        self.bug: Exception | None = None
        self.fetched: list[str] = []
        self.delay = 0.0
        self.waiting = 0
        self.go = trio.Event()
        self.go.set()
        self._coming: dict[Digest, trio.Event] = {}

    def forget(self) -> None:
        """Drops all objects, so that each must be fetched again."""
        self._here.clear()

    def _load(self, ref: ObjectRef) -> bytes:
        try:
            with open(os.path.join(self._directory, ref.digest.hex()), "rb") as file:
                return check(file.read(), ref)
        except FileNotFoundError:
            raise NotFound(f"object {ref.digest.hex()} is not there") from None

    def at_hand(self, ref: ObjectRef) -> bytes | None:
        if self.bug is not None:
            raise self.bug
        if self.everything_here:
            try:
                return self._load(ref)
            except LazyfsError:
                return None
        return self._here.get(ref.digest)

    def read_at_hand(self, ref: ObjectRef, start: int, length: int) -> bytes | None:
        whole = self.at_hand(ref)
        return None if whole is None else whole[start : start + length]

    def copy_at_hand(self, *_: object) -> None:
        """Returns nothing: there are no profiles here."""

    async def fetch_copy(self, *_: object, **__: object) -> dict[Digest, bytes]:
        return {}

    async def fetch(self, ref: ObjectRef, *, deadline: float | None = None, hurried: bool = False) -> bytes:
        self.waiting += 1
        try:
            while ref.digest in self._coming:
                await self._coming[ref.digest].wait()
            here = self._here.get(ref.digest)
            return await self._fetch(ref) if here is None else here
        finally:
            self.waiting -= 1

    async def _fetch(self, ref: ObjectRef) -> bytes:
        ended = self._coming[ref.digest] = trio.Event()
        self.fetched.append(ref.digest.hex())
        try:
            await self.go.wait()
            if self.delay:
                await trio.sleep(self.delay)
            plain = self._load(ref)
            if self.keep:
                self._here[ref.digest] = plain
            return plain
        finally:
            del self._coming[ref.digest]
            ended.set()


class Server:
    """One mount and the commands that a test can send to it."""

    def __init__(
        self, objects: SlowObjects, ahead: AskedAhead, filesystem: Filesystem, invalidator: Invalidator
    ) -> None:
        self._objects = objects
        self._ahead = ahead
        self._filesystem = filesystem
        self._invalidator = invalidator

    async def do(self, request: dict[str, Any]) -> Any:
        objects, tree = self._objects, self._filesystem.tree
        match request["do"]:
            case "counters":
                return self._filesystem.counters.snapshot()
            case "table":
                with self._filesystem.lock:
                    return {
                        "slots": len(tree.slots),
                        "lookups": sum(slot.count for slot in tree.slots) - 1,
                        "places": [f"{slot.path.decode()} {slot.count} {slot.below}" for slot in tree.slots],
                        "copies": len(tree.shared_files),
                        "rss": _resident(),
                        "fds": len(os.listdir("/proc/self/fd")),
                    }
            case "objects":
                objects.everything_here = request.get("here", objects.everything_here)
                objects.keep = request.get("keep", objects.keep)
                objects.delay = request.get("delay", objects.delay)
                ahead = self._ahead.asked
                return {"fetched": objects.fetched, "waiting": objects.waiting, "ahead": ahead}
            case "hold":
                objects.go = trio.Event()
            case "go":
                objects.go.set()
            case "break":
                objects.bug = {"value": ValueError("4300 digits"), "depth": RecursionError()}.get(
                    request["how"]
                )
            case "break space":
                self._filesystem.cache_space = (lambda: (1 << 90, 0)) if request["how"] else (lambda: None)
            case "forget objects":
                objects.forget()
                with self._filesystem.lock:
                    tree.parsed.clear()
            case "switch":
                root = ObjectRef(Digest(bytes.fromhex(request["root"])), request["size"])
                await self._invalidator.switch("test", root, request["revision"], lambda: None)
            case other:
                raise AssertionError(other)
        return {}


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as line:
        return int(line.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def serve(kind: str, mountpoint: str, directory: str, root: ObjectRef, permissions: str) -> None:
    objects = SlowObjects(directory)
    ahead = AskedAhead(objects)
    filesystem = Filesystem(Tree(SlotTable()), no_site, patience=30)
    filesystem.show(OpenRepository("test", objects, root, 1, ahead))
    options = MountOptions(source="test", permissions=permissions, suid=False, dev=False)
    session = make_session(kind, filesystem, mountpoint, options)
    server = Server(objects, ahead, filesystem, Invalidator(filesystem, session))
    token = trio.lowlevel.current_trio_token()
    async with trio.open_nursery() as nursery:

        def commands() -> None:
            for line in sys.stdin:
                answer = trio.from_thread.run(server.do, json.loads(line), trio_token=token)
                print(json.dumps(answer), flush=True)

        async def main() -> None:
            await session.serve()
            nursery.cancel_scope.cancel()

        nursery.start_soon(main)
        await trio.to_thread.run_sync(os.stat, mountpoint)
        print("ready", flush=True)
        threading.Thread(target=commands, daemon=True).start()


if __name__ == "__main__":
    sys.setswitchinterval(50e-6)
    _, kind, mountpoint, directory, digest, size, permissions = sys.argv
    root = ObjectRef(Digest(bytes.fromhex(digest)), int(size))
    trio.run(serve, kind, mountpoint, directory, root, permissions)
