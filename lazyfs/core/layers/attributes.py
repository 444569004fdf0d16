"""Distinguishes the extended attributes that belong to an image from those that its build host left
behind."""

_HOST = (
    b"security.selinux",
    b"security.apparmor",
    b"security.ima",
    b"security.evm",
    b"system.nfs4_acl",
    b"system.nfs4_dacl",
    b"system.nfs4_sacl",
    b"system.cifs_acl",
    b"system.cifs_ntsd",
    b"system.cifs_ntsd_full",
    b"system.ntfs_acl",
    b"system.ntfs_attrib",
)
"""Labels of a security module, signatures made with a machine's key, and access lists that a file server
keeps for its network filesystem."""
_HOST_PREFIXES = (
    b"security.SMACK64",
    b"trusted.overlay.",
    b"user.overlay.",
    b"user.fuseoverlayfs.",
    b"user.containers.override_",
    b"user.rootlesscontainers",
)
"""Labels of Smack, and the notes of overlay filesystems and rootless engines. An overlay made of a published
tree would obey such notes and hide files of the image."""


def is_images(name: bytes) -> bool:
    """Returns True for an attribute that a mount shows: capabilities, POSIX access lists, the user's own.

    Returns False for umoci's list (security.selinux, system.nfs4_acl, trusted.overlay.*) and similar ones.
    """
    return name not in _HOST and not name.startswith(_HOST_PREFIXES)
