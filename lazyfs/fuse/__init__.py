"""The sessions through which the kernel reads a mounted tree (`vfs`)."""
