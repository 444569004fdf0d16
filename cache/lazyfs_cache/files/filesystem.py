"""The kernel's answers about the filesystem and the machine that a cache is on."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

NETWORK = {
    0x6969: "nfs",
    0x517B: "smb",
    0xFF534D42: "cifs",
    0xFE534D42: "smb3",
    0x0BD00BD0: "lustre",
    0x47504653: "gpfs",
    0x00C36400: "ceph",
    0x5346414F: "afs",
    0x6B414653: "kafs",
    0x01021997: "9p",
    0x73757245: "coda",
    0x65735546: "fuse",
    0x7461636F: "ocfs2",
    0x01161970: "gfs2",
    0xAAD7AAEA: "panfs",
    0x19830326: "beegfs",
    0x786F4256: "vboxsf",
}
"""statfs types (linux/magic.h and the vendors' headers) where locks and mapped files do not work between
machines, or are not known to. FUSE is among them because sshfs, GlusterFS and lazyfs itself are FUSE
filesystems."""


def network_type(path: str) -> str | None:
    """Returns the name of the network filesystem that `path` is on, None if it is local."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs is 120 bytes; its first word is f_type
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)
    return NETWORK.get(ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF)


def boot_id() -> str:
    """Returns the kernel's random id of this boot."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def used(path: str, dir_fd: int | None = None) -> int:
    """Returns the number of bytes of disk that a file or directory itself occupies, as `du` counts; 0 if it
    does not exist. `dir_fd`: the open directory from which a relative `path` starts."""
    try:
        return os.lstat(path, dir_fd=dir_fd).st_blocks * 512
    except FileNotFoundError:
        return 0
