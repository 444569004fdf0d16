"""Opens /dev/fuse and mounts it: by mount(2) as root, by fusermount3 for other users."""

import array
import ctypes
import errno
import os
import select
import socket

from lazyfs.core.errors import UsageError
from lazyfs.fuse.session import MountOptions
from lazyfs.fuse.wire.handshake import MAX_READ
from lazyfs.system import mountpoint as points
from lazyfs.system.mount_table import Mount

_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_MNT_FORCE, _MNT_DETACH = 1, 2


def check_device(path: str = "/dev/fuse") -> None:
    """Raises UsageError, with a remedy, if this user cannot mount FUSE filesystems."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise UsageError(
            f"{path} does not exist: load the module as root (modprobe fuse), or run the container with "
            f"--device /dev/fuse"
        ) from None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be opened by uid {os.geteuid()}: {error.strerror}; as root: chmod 0666 {path}"
        ) from None


def mount(mountpoint: str, options: MountOptions) -> int:
    """Mounts; returns the descriptor of /dev/fuse that belongs to the mount. Raises UsageError if the mount
    is refused."""
    if os.geteuid() == 0:
        return _mount_as_root(mountpoint, options)
    return _mount_by_helper(mountpoint, options)


def _checks(options: MountOptions) -> list[str]:
    """Returns the kernel's own options for a FUSE mount: the size of reads, and who may read."""
    found = [f"max_read={MAX_READ}"]
    if options.allow_other:
        found.append("allow_other")
    if options.permissions == "image":
        found.append("default_permissions")
    return found


def _mount_as_root(mountpoint: str, options: MountOptions) -> int:
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"/dev/fuse: {error.strerror}; load the module: modprobe fuse") from None
    # The real ids: a daemon that starts as root and becomes another user mounts in that user's name
    # (`privileges`).
    owner = [f"user_id={os.getuid()}", f"group_id={os.getgid()}"]
    data = ",".join([f"fd={fd}", "rootmode=40000", *owner, *_checks(options)])
    flags = _MS_RDONLY | (0 if options.suid else _MS_NOSUID) | (0 if options.dev else _MS_NODEV)
    libc = ctypes.CDLL(None, use_errno=True)
    source, target = options.source.encode(), os.fsencode(mountpoint)
    if libc.mount(source, target, points.FSTYPE.encode(), ctypes.c_ulong(flags), data.encode()) != 0:
        number = ctypes.get_errno()
        os.close(fd)
        raise UsageError(f"cannot mount on {mountpoint}: {os.strerror(number)}")
    return fd


def _mount_by_helper(mountpoint: str, options: MountOptions) -> int:
    import shutil  # imported only here: root needs no shutil, and the import takes 3 ms
    import subprocess

    tool = shutil.which("fusermount3")
    if tool is None:
        raise UsageError("fusermount3 is not installed: apt-get install fuse3, or mount as root")
    wanted = ["ro", "subtype=lazyfs", "fsname=" + options.source.replace("\\", "\\\\").replace(",", "\\,")]
    wanted += [*_checks(options), *(["dev"] if options.dev else []), *(["suid"] if options.suid else [])]
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            done = subprocess.run(
                [tool, "-o", ",".join(wanted), "--", mountpoint],
                env=os.environ | {"_FUSE_COMMFD": str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        if done.returncode:
            reason = done.stderr.strip().removeprefix(f"{tool}: ") or f"exit code {done.returncode}"
            if "write access" in reason:
                reason += "; mount on a directory of your own"
            raise UsageError(f"cannot mount on {mountpoint}: {reason}")
        return _received(ours, mountpoint)


def _received(line: socket.socket, mountpoint: str) -> int:
    """Returns the descriptor that fusermount3 has sent over the socket."""
    found: array.array[int] = array.array("i")
    _, ancillary, _, _ = line.recvmsg(1, socket.CMSG_SPACE(found.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: found.itemsize])
    if not found:
        raise UsageError(f"cannot mount on {mountpoint}: fusermount3 sent no descriptor")
    os.set_inheritable(found[0], False)
    return found[0]


def abort(mount: Mount, fd: int) -> None:
    """Unmounts our own mount, even if programs use it, and ends its connection `fd`: a thread that waits for
    requests sees the end. Does nothing if the mount is gone. Raises UsageError."""
    if not is_connected(fd):
        return  # an automounter may have made a new mount there by now
    there = points.find(mount.mountpoint)
    if os.geteuid() == 0 and there and there.device == mount.device:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(mount.mountpoint), _MNT_FORCE | _MNT_DETACH) != 0:
            number = ctypes.get_errno()
            if number != errno.EINVAL:
                raise UsageError(f"cannot unmount {mount.mountpoint}: {os.strerror(number)}")
        return
    try:
        # This file belongs to the user who mounted.
        with open(f"/sys/fs/fuse/connections/{mount.device.partition(':')[2]}/abort", "w") as file:
            file.write("1")
    except OSError:
        pass  # gone already, or fusectl is not mounted: the process's end will end the connection
    if there and there.device == mount.device:
        points.unmount(mount.mountpoint)


def is_connected(fd: int) -> bool:
    """Returns True while the filesystem behind this descriptor lives in the kernel: mounted somewhere, or
    unmounted and in use.

    The mount's device number is no proof: the kernel gives it to the next mount at once.
    """
    if fd < 0:
        return False
    poll = select.poll()
    poll.register(fd, 0)  # poll always reports errors
    return not poll.poll(0)


def raise_read_ahead(mount: Mount) -> None:
    """Sets the kernel's read-ahead for the mount to MAX_READ bytes, in place of its default of 128 KiB; does
    nothing where this is not permitted. Sequential reads go from 640 MB/s to 1.1 GB/s, and the chunks of a
    large file are fetched side by side."""
    try:
        with open(f"/sys/class/bdi/{mount.device}/read_ahead_kb", "w") as file:
            file.write(str(MAX_READ >> 10))
    except OSError:
        pass  # not root, or /sys is read-only: sequential reads stay slower
