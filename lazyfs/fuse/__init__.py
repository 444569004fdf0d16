"""Sessions that carry the vfs to the kernel."""
