"""The kernel's FUSE protocol: its structures, its device, and how a filesystem is mounted on it."""
