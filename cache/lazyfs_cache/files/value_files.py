"""The files of values: every system call on them is made here.

Values are written under tmp/, then renamed into one of the 256 numbered directories of data/ (its *fan-out
directories*), so a reader finds every file in data/ whole (unless the machine has crashed: the checksums then
show it). Readers open by key and need neither the index nor a lock; a file that is evicted while they read
stays readable until they close it.
"""

import errno
import os
from collections.abc import Iterable
from contextlib import suppress

from lazyfs_cache.files import layout, sealed
from lazyfs_cache.files.filesystem import used

_WHOLE = 1 << 15
"""Files up to this many bytes are read by one call, trailer included. For longer files, cutting the trailer
off would cost a copy of the value."""

_EXTENTS = 4
"""Number of extents that an inode of ext4 has room for. A file of more blocks may need another block for its
extents, so its blocks are allocated before it is written: they are counted from the start, and a full disk
shows at once."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_OVER = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ValueFiles:
    """The files under data/ and tmp/ of one cache directory. Every method may raise OSError."""

    def __init__(self, root: str, *, fsync: bool) -> None:
        self.root = root
        self._fsync = fsync
        self._data = os.open(os.path.join(root, layout.DATA), _DIRECTORY)
        self._tmp = os.open(os.path.join(root, layout.TMP), _DIRECTORY)
        self.block = os.statvfs(root).f_frsize

    def close(self) -> None:
        os.close(self._data)
        os.close(self._tmp)

    # -- reading -------------------------------------------------------------------------------------

    def whole(self, key: bytes) -> bytes | None:
        """Returns the value, every block checked; None if it is not here. Raises Damaged."""
        try:
            return self._whole(key)
        except sealed.Damaged:
            return self._whole(key)  # perhaps it was evicted after it was opened, and its file written over

    def _whole(self, key: bytes) -> bytes | None:
        try:
            fd = os.open(layout.name_of(key), _READ, dir_fd=self._data)
        except FileNotFoundError:
            return None
        try:
            start = os.pread(fd, _WHOLE, 0)
            if len(start) < _WHOLE:
                size = sealed.value_size(len(start))
                if size is None:
                    raise sealed.Damaged("no such length")
                value = start[:size]
                trailer: bytes = start[size:]
            else:
                size = _size(fd)
                value = os.pread(fd, size, 0)
                trailer = os.pread(fd, sealed.trailer_size(size), size)
        finally:
            os.close(fd)
        sums = sealed.sums_of(key, size, trailer)
        if len(value) != size:
            raise sealed.Damaged("short file")
        sealed.check(key, sums, 0, value)
        return value

    def part(self, key: bytes, offset: int, length: int, wanted: int | None = None) -> bytes | None:
        """Returns bytes [offset, offset + length) of the value, cut at its end; only the blocks touched are
        read and checked. Returns None if it is not here, or is not `wanted` bytes long. Raises Damaged."""
        try:
            return self._part(key, offset, length, wanted)
        except sealed.Damaged:
            return self._part(key, offset, length, wanted)

    def _part(self, key: bytes, offset: int, length: int, wanted: int | None) -> bytes | None:
        try:
            fd = os.open(layout.name_of(key), _READ, dir_fd=self._data)
        except FileNotFoundError:
            return None
        try:
            size = _size(fd)
            if wanted not in (None, size):
                return None
            end = min(offset + length, size)
            first = offset // sealed.BLOCK
            start = first * sealed.BLOCK
            stop = min(-(-end // sealed.BLOCK) * sealed.BLOCK, size)
            trailer = os.pread(fd, sealed.trailer_size(size), size)
            data = os.pread(fd, stop - start, start) if stop > start else b""
        finally:
            os.close(fd)
        sums = sealed.sums_of(key, size, trailer)
        if len(data) != max(stop - start, 0):
            raise sealed.Damaged("short file")
        sealed.check(key, sums, first, data)
        return data if offset == start and end == stop else data[offset - start : end - start]

    def size(self, key: bytes) -> int | None:
        """Returns the value's size, computed from the length of its file; None if it is not here."""
        try:
            length = os.stat(layout.name_of(key), dir_fd=self._data).st_size
        except FileNotFoundError:
            return None
        return sealed.value_size(length)

    # -- writing -------------------------------------------------------------------------------------

    def most_for_value(self, size: int) -> int:
        """Returns the largest number of bytes of disk that a value of `size` bytes takes, its trailer
        included."""
        return self.most_for_file(size + sealed.trailer_size(size))

    def most_for_file(self, length: int) -> int:
        """Returns the largest number of bytes of disk that a file of `length` bytes takes: whole blocks of
        the filesystem, and one more block if there may be many extents."""
        rounded = -(-length // self.block) * self.block
        return rounded + (self.block if rounded > _EXTENTS * self.block else 0)

    def rounded(self, size: int) -> int:
        """Returns the number of bytes of a sealed value of `size` bytes, in whole blocks of the
        filesystem."""
        return -(-(size + sealed.trailer_size(size)) // self.block) * self.block

    def write(self, name: str, key: bytes, value: bytes | memoryview) -> int:
        """Writes a sealed value to tmp/`name`; returns the bytes of disk it occupies. A failed write leaves
        no file."""
        trailer = sealed.seal(key, value)
        length = len(value) + len(trailer)
        parts = (value, trailer) if length > _WHOLE else (b"".join((value, trailer)),)
        fd = os.open(name, _WRITE, 0o600, dir_fd=self._tmp)
        return self._fill(fd, name, length, parts)

    def write_over(self, name: str, key: bytes, value: bytes | memoryview) -> int:
        """Writes a sealed value over the file tmp/`name`, which held an evicted value; returns the bytes of
        disk that it occupies. On ext4 this costs a tenth of making a new file when many files have been
        deleted (docs/cache.md)."""
        sealed_value = b"".join((value, sealed.seal(key, value)))
        fd = os.open(name, _OVER, dir_fd=self._tmp)
        return self._fill(fd, name, len(sealed_value), (sealed_value,), cut=True)

    def _fill(
        self, fd: int, name: str, length: int, parts: Iterable[bytes | memoryview], *, cut: bool = False
    ) -> int:
        """Writes `parts`, `length` bytes in all, to tmp/`name` and closes `fd`; returns the bytes of disk the
        file occupies. `cut`: the file may be longer or shorter before, and is first set to `length`."""
        try:
            try:
                if cut:
                    os.ftruncate(fd, length)
                if length > _EXTENTS * self.block:
                    _allocate(fd, length)
                for part in parts:
                    _write_all(fd, part)
                if self._fsync:
                    os.fsync(fd)
                return os.fstat(fd).st_blocks * 512
            finally:
                os.close(fd)
        except BaseException:
            self.discard_tmp(name)
            raise

    def rename_tmp(self, name: str, new: str) -> None:
        """Renames tmp/`name` to tmp/`new`."""
        os.rename(name, new, src_dir_fd=self._tmp, dst_dir_fd=self._tmp)

    def take_out(self, key: bytes, name: str) -> bool:
        """Moves the value's file to tmp/`name`, so that it can be written over. Returns False if it is not
        here."""
        try:
            os.rename(layout.name_of(key), name, src_dir_fd=self._data, dst_dir_fd=self._tmp)
        except FileNotFoundError:
            return False
        return True

    def publish(self, name: str, key: bytes) -> None:
        """Moves tmp/`name` to its place under data/, where readers find the value from now on."""
        place = layout.name_of(key)
        try:
            os.rename(name, place, src_dir_fd=self._tmp, dst_dir_fd=self._data)
        except FileNotFoundError:
            with suppress(FileExistsError):  # another process has put the value first
                os.mkdir(place[:2], 0o700, dir_fd=self._data)
            os.rename(name, place, src_dir_fd=self._tmp, dst_dir_fd=self._data)

    def discard_tmp(self, name: str) -> None:
        """Unlinks tmp/`name`; does nothing if it does not exist."""
        try:
            os.unlink(name, dir_fd=self._tmp)
        except FileNotFoundError:
            pass

    def remove(self, key: bytes) -> None:
        """Unlinks the value; does nothing if it is not here."""
        try:
            os.unlink(layout.name_of(key), dir_fd=self._data)
        except FileNotFoundError:
            pass

    # -- looking -------------------------------------------------------------------------------------

    def status(self, key: bytes) -> os.stat_result | None:
        """Returns the status of the value's file; None if it is not here."""
        try:
            return os.stat(layout.name_of(key), dir_fd=self._data, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def here(self, key: bytes) -> bool:
        """Returns True if the value has a file."""
        return self.status(key) is not None

    def tops_used(self) -> int:
        """Returns the number of bytes of disk that data/ and tmp/ themselves occupy, which grow with their
        numbers of names."""
        return (os.fstat(self._data).st_blocks + os.fstat(self._tmp).st_blocks) * 512

    def any_data(self) -> bool:
        """Returns True if there may be values, because a fan-out directory exists."""
        return _any(os.path.join(self.root, layout.DATA))

    def directory_used(self, number: int) -> int:
        """Returns the number of bytes of disk that fan-out directory `number` itself occupies."""
        return used(layout.FAN_OUT[number], self._data)

    def names(self, number: int) -> list[str]:
        """Returns the names in fan-out directory `number`."""
        try:
            return os.listdir(os.path.join(self.root, layout.DATA, layout.FAN_OUT[number]))
        except FileNotFoundError:
            return []

    def remove_name(self, number: int, name: str) -> None:
        """Unlinks a file whose name stands for no key, in fan-out directory `number`."""
        try:
            os.unlink(f"{layout.FAN_OUT[number]}/{name}", dir_fd=self._data)
        except FileNotFoundError:
            pass

    def any_tmp(self) -> bool:
        """Returns True if tmp/ holds anything."""
        return _any(os.path.join(self.root, layout.TMP))

    def filesystem_status(self) -> os.statvfs_result:
        return os.fstatvfs(self._data)


def _any(directory: str) -> bool:
    with os.scandir(directory) as found:
        return next(found, None) is not None


def _size(fd: int) -> int:
    size = sealed.value_size(os.fstat(fd).st_size)
    if size is None:
        raise sealed.Damaged("no value has this length")
    return size


def _allocate(fd: int, length: int) -> None:
    try:
        os.posix_fallocate(fd, 0, length)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def _write_all(fd: int, data: bytes | memoryview) -> None:
    written = os.write(fd, data)
    if written != len(data):
        view = memoryview(data)
        while written < len(view):
            written += os.write(fd, view[written:])
