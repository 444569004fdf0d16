"""The open device, to which answers and notifications are written, each in one write."""

import errno
import logging
import os

from lazyfs.fuse.wire import replies
from lazyfs.fuse.wire.protocol import OUT_HEADER

OVER = (errno.ENODEV, errno.ECONNABORTED, errno.EBADF, errno.EPIPE)
"""Errors that mean that the mount is gone."""
_NOBODY_WAITS = (errno.ENOENT, *OVER)
_HEADER = OUT_HEADER.size

log = logging.getLogger(__name__)


class Channel:
    """Writes answers and notifications to the open device. Thread-safe."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def reply(self, unique: int, pieces: list[bytes]) -> None:
        """Writes an answer in pieces that are not joined: copying a MiB would cost 60 us."""
        header = OUT_HEADER.pack(_HEADER + sum(map(len, pieces)), 0, unique)
        try:
            os.writev(self.fd, [header, *pieces])
        except OSError as error:
            self.unwritten(error)

    def refuse(self, unique: int, number: int) -> None:
        """Answers a request with an errno; 0 for a request that has succeeded and has no other answer."""
        self.write(replies.error(number, unique))

    def write(self, answer: bytes) -> None:
        """Writes an answer that begins with its header."""
        try:
            os.write(self.fd, answer)
        except OSError as error:
            self.unwritten(error)

    def notify(self, notification: bytes) -> None:
        """Writes a notification; returns when the kernel has carried it out. An inode or name that the kernel
        does not know is no error."""
        try:
            os.write(self.fd, notification)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, *_NOBODY_WAITS):
                raise

    def unwritten(self, error: OSError) -> None:
        """Logs that the kernel did not take an answer, unless no program waits for it any more."""
        if error.errno not in _NOBODY_WAITS:
            log.error("the kernel does not take an answer: %s", error)
