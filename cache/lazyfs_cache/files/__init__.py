"""The files in a cache directory, and the system calls on them. This package makes no decisions and does not
know the index."""
