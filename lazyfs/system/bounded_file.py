"""Reads small files that people name in options. They may be pipes (`--config <(...)`), and a pipe may never
end."""

import errno
import os
import select
import time

SECONDS = 10.0
"""The longest time, in seconds, to wait for the end of a pipe."""
_PART = 1 << 16


def read_file(path: str, limit: int, seconds: float = SECONDS) -> bytes:
    """Returns the content of a file or pipe, cut after `limit` bytes. Raises OSError: TimeoutError for a pipe
    whose writers have not closed it within `seconds`; ValueError for a path with a NUL."""
    end = time.monotonic() + seconds
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    content = bytearray()
    try:
        poll = select.poll()
        poll.register(number, select.POLLIN)
        while len(content) < limit:
            # read(2) takes a named pipe without a writer for one that has ended; poll(2) does not.
            if not poll.poll(max(end - time.monotonic(), 0) * 1000):
                raise TimeoutError(errno.ETIMEDOUT, f"a pipe that has not ended within {seconds:g} s")
            part = os.read(number, min(_PART, limit - len(content)))
            if not part:
                break
            content += part
    finally:
        os.close(number)
    return bytes(content)
