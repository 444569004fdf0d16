"""Writes files that a power failure leaves whole: under a temporary name, flushed, then renamed."""

import os


def write_durably(
    path: str,
    data: bytes,
    *,
    mode: int = 0o600,
    replace: bool = True,
    temporary_directory: str | None = None,
) -> os.stat_result:
    """Writes `data` to a file at `path`, puts the file and its name on stable storage, and returns its
    status.

    `temporary_directory`: the directory in which the file is written before it gets its name, on the same
    filesystem (default: the directory of `path`). A process that dies meanwhile leaves `path` as it was, and
    at worst a file in that directory whose name begins with a dot. Raises FileExistsError if the name is
    taken and `replace` is false, OSError if the disk fails.
    """
    import tempfile  # 3 ms with what it imports, which mounts on a known revision are spared

    directory = os.path.dirname(path) or "."
    descriptor, temporary = tempfile.mkstemp(
        dir=temporary_directory or directory, prefix=f".{os.path.basename(path)}."
    )
    try:
        with open(descriptor, "wb", buffering=0) as file:
            _fill(file.fileno(), data, mode)
            os.fsync(descriptor)
            status = os.fstat(descriptor)
        if replace:
            os.rename(temporary, path)
        else:
            os.link(temporary, path)
            os.unlink(temporary)
    except BaseException:
        _discard(temporary)
        raise
    flush(directory)
    return status


def write_unnamed(directory: str, data: bytes, *, mode: int) -> str:
    """Writes `data` to a new file in `directory`, under a temporary name and without flushing it. Returns the
    file's path. Raises OSError.

    Meant for files that are flushed and renamed in batches.
    """
    import tempfile

    descriptor, path = tempfile.mkstemp(dir=directory)
    try:
        with open(descriptor, "wb", buffering=0):
            _fill(descriptor, data, mode)
    except BaseException:
        _discard(path)
        raise
    return path


def flush(path: str) -> None:
    """Flushes the file or directory at `path` to stable storage. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all bytes. One write(2) writes only a part if the disk, or a limit, has no room for more. Raises
    OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _fill(descriptor: int, data: bytes, mode: int) -> None:
    os.fchmod(descriptor, mode)
    write_all(descriptor, data)


def _discard(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:  # the first error is the one to report
        pass
