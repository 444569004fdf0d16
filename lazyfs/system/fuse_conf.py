"""Reads /etc/fuse.conf as fusermount3 reads it."""

PATH = "/etc/fuse.conf"


def user_allow_other(path: str = PATH) -> bool:
    """Returns True if users may make mounts that other users can see; otherwise fusermount3 refuses such a
    mount."""
    try:
        with open(path, "rb") as file:
            lines = file.read(1 << 20).split(b"\n")
    except OSError:
        return False
    return any(line.partition(b"#")[0].strip() == b"user_allow_other" for line in lines)
