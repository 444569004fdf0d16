"""The kernel's FUSE protocol: its structures, requests and replies as bytes."""
