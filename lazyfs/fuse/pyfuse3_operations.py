"""Answers the requests of the session on pyfuse3, by translating each into a call of the tree.

pyfuse3 hands `read` and `readdir` only the handle that OPEN and OPENDIR returned, so the handle is the inode
number. With pyfuse3 the kernel neither opens files without asking nor caches the targets of symlinks: it
sends OPEN, RELEASE, OPENDIR, READDIRPLUS, RELEASEDIR and READLINK again each time.
"""
# ruff: noqa: ARG002 - pyfuse3 fixes the signatures

import errno
import functools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeVar

import pyfuse3

from lazyfs.fuse.file_read import FileRead
from lazyfs.fuse.filesystem import Call, Filesystem
from lazyfs.fuse.session import FOREVER, statfs
from lazyfs.vfs.attributes import BLOCK_SIZE, Attributes
from lazyfs.vfs.missing_objects import Fetched
from lazyfs.vfs.operator_xattrs import get_xattr, list_xattrs

T = TypeVar("T")
P = ParamSpec("P")


def _alone(method: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Returns the method, changed so that each of its exceptions becomes an errno for the request alone:
    pyfuse3 would end the mount."""

    @functools.wraps(method)
    async def call(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return await method(*arguments, **options)
        except pyfuse3.FUSEError:
            raise
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None
        except Exception as bug:  # noqa: BLE001 (logged by `bug`)
            operations = arguments[0]
            assert isinstance(operations, Operations)
            raise pyfuse3.FUSEError(operations.bug(bug)) from None

    return call


class Operations(pyfuse3.Operations):
    """pyfuse3's callbacks. The kernel's permission checks are asked for by mount options."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, filesystem: Filesystem) -> None:
        super().__init__()
        self._fs = filesystem
        self._tree = filesystem.tree

    def bug(self, error: Exception) -> int:
        """Counts and logs an unexpected error; returns the errno for the program."""
        return self._fs.bug(error).errno or errno.EIO

    async def _ask(self, name: str, call: Call[T]) -> T:
        """Counts a request of the type `name`, and returns the answer of a call that needs the lock."""
        return await self._complete(name, self._fs.locked(call))

    async def _complete(self, name: str, call: Call[T]) -> T:
        self._fs.counters.upcall(name)
        try:
            return await self._fs.complete(call)
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None

    @_alone
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        def call(fetched: Fetched) -> Attributes | None:
            found = self._tree.lookup(parent_inode, name, fetched)
            if found is not None:
                self._tree.hold(found.number)
            return found

        found = await self._ask("LOOKUP", call)
        if found is None:
            missing = pyfuse3.EntryAttributes()
            missing.st_ino = 0  # a name known to be missing, unlike ENOENT, is remembered
            missing.entry_timeout = FOREVER
            return missing
        return entry_attributes(found)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        self._fs.counters.upcall("FORGET")
        try:
            with self._fs.lock:
                for number, lookups in inode_list:
                    self._tree.forget(number, lookups)
        except Exception as bug:  # noqa: BLE001 (logged by `bug`; no answer is awaited)
            self.bug(bug)

    @_alone
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return entry_attributes(
            await self._ask("GETATTR", lambda fetched: self._tree.getattr(inode, fetched))
        )

    @_alone
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._ask("READLINK", lambda fetched: self._tree.readlink(inode, fetched))

    @_alone
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        self._fs.counters.upcall("OPEN")
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    @_alone
    async def read(self, fh: int, off: int, size: int) -> bytes:
        data = b"".join(await self._complete("READ", FileRead(self._fs, fh, off, size)))
        self._fs.counters.read_bytes += len(data)
        return data

    @_alone
    async def release(self, fh: int) -> None:
        self._fs.counters.upcall("RELEASE")

    @_alone
    async def flush(self, fh: int) -> None:
        self._fs.counters.upcall("FLUSH")

    @_alone
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        self._fs.counters.upcall("OPENDIR")
        return inode

    @_alone
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        def call(fetched: Fetched) -> None:
            if start_id < 1:
                own = entry_attributes(self._tree.getattr(fh, fetched))
                if not pyfuse3.readdir_reply(token, b".", own, 1):
                    return
            if start_id < 2:
                above = entry_attributes(self._tree.getattr(self._tree.parent(fh, fetched), fetched))
                if not pyfuse3.readdir_reply(token, b"..", above, 2):
                    return
            position = max(start_id - 2, 0)
            for name, attributes in self._tree.listing(fh, position, fetched):
                position += 1
                if not pyfuse3.readdir_reply(token, name, entry_attributes(attributes), position + 2):
                    return
                self._tree.hold(attributes.number)

        def checked(fetched: Fetched) -> None:
            # A missing object must come up before the first reply: a reply cannot be taken back.
            self._tree.getattr(fh, fetched)
            self._tree.getattr(self._tree.parent(fh, fetched), fetched)
            self._tree.listing(fh, start_id, fetched)
            call(fetched)

        await self._ask("READDIRPLUS", checked)

    @_alone
    async def releasedir(self, fh: int) -> None:
        self._fs.counters.upcall("RELEASEDIR")

    @_alone
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        self._fs.counters.upcall("STATFS")
        with self._fs.lock:
            space = statfs(self._tree, self._fs.cache_space())
        data = pyfuse3.StatvfsData()
        data.f_bsize, data.f_frsize = space.bsize, space.frsize
        data.f_blocks, data.f_bfree, data.f_bavail = space.blocks, space.bfree, space.bfree
        data.f_files, data.f_ffree, data.f_favail = space.files, 0, 0
        data.f_namemax = space.namemax
        return data

    @_alone
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        value = await self._ask("GETXATTR", lambda fetched: get_xattr(self._tree, inode, name, fetched))
        if value is None:
            raise pyfuse3.FUSEError(errno.ENODATA)
        return value

    @_alone
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        return await self._ask("LISTXATTR", lambda fetched: list_xattrs(self._tree, inode, fetched))


def entry_attributes(found: Attributes) -> pyfuse3.EntryAttributes:
    """Returns attributes as pyfuse3 hands them to the kernel."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = found.number
    entry.generation = 0
    entry.entry_timeout = FOREVER
    entry.attr_timeout = FOREVER
    entry.st_mode = found.mode
    entry.st_nlink = found.nlink
    entry.st_uid = found.uid
    entry.st_gid = found.gid
    entry.st_rdev = found.rdev
    entry.st_size = found.size
    entry.st_blksize = BLOCK_SIZE
    entry.st_blocks = found.blocks
    entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = found.mtime
    return entry
