"""How long threads of another Python process hold its global lock (GIL), read from its memory.

The interpreter keeps the lock in `_PyRuntime`: the switch interval in microseconds, the last holder, the flag
`locked`, and the number of times that the lock went from one thread to another. Their place is found in this
process, which the same interpreter runs: it is where the switch interval appears when it is set. Reading
another process's memory needs root, and stops none of its threads.
"""

import ctypes
import os
import struct
import sys
import threading
from pathlib import Path
from typing import Final

_FIELDS: Final = struct.Struct("@LPiL")
"""struct _gil_runtime_state of CPython 3.11 up to `switch_number`."""
_PAUSE: Final = 0.001
"""Seconds between two samples."""
_SEARCHED: Final = 16 << 10
"""Bytes at the beginning of `_PyRuntime` in which the interval is searched."""


def _offset() -> tuple[str, int]:
    """Returns the file that holds `_PyRuntime`, and the distance of the lock's fields from the place where
    the file is mapped. Raises RuntimeError if this interpreter keeps them elsewhere."""
    runtime = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))
    before = sys.getswitchinterval()
    found: set[int] | None = None
    try:
        for micros in (4321, 12345):
            sys.setswitchinterval(micros / 1e6)
            memory = ctypes.string_at(runtime, _SEARCHED)
            wanted = struct.pack("@L", micros)
            places = {at for at in range(0, _SEARCHED, 8) if memory[at : at + 8] == wanted}
            found = places if found is None else found & places
    finally:
        sys.setswitchinterval(before)
    if not found or len(found) > 1:
        raise RuntimeError(f"Python {sys.version.split()[0]} does not show its lock")
    address = runtime + found.pop()
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, _, *path = line.split(maxsplit=5)
        low, high = (int(edge, 16) for edge in span.split("-"))
        if low <= runtime < high and path:
            return path[0], address - _base(os.getpid(), path[0])
    raise RuntimeError("no file holds the interpreter's state")


def _base(pid: int, file: str) -> int:
    """Returns the lowest address at which a process has mapped a file. Raises RuntimeError if it has not."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith(file):
            return int(line.split("-")[0], 16)
    raise RuntimeError(f"process {pid} is run by another interpreter")


class LockSampler:
    """Samples the lock of a process in a thread, between `start` and `stop`."""

    def __init__(self, pid: int) -> None:
        file, offset = _offset()
        self._address = _base(pid, file) + offset
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._samples = self._held = 0
        self._first = 0

    def start(self) -> None:
        self._first = self._read()[1]
        self._thread.start()

    def stop(self) -> tuple[float, int]:
        """Returns the share of samples in which a thread held the lock, and the number of times that it went
        from one thread to another."""
        self._ended.set()
        self._thread.join()
        switches = self._read()[1] - self._first
        os.close(self._memory)
        return self._held / self._samples, switches

    def _read(self) -> tuple[bool, int]:
        _, _, locked, switches = _FIELDS.unpack(os.pread(self._memory, _FIELDS.size, self._address))
        return locked == 1, switches

    def _sample(self) -> None:
        while True:
            self._held += self._read()[0]
            self._samples += 1
            if self._ended.wait(_PAUSE):
                return
