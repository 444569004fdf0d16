"""Sessions that serve the vfs to the kernel."""
