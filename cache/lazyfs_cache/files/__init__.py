"""The files in a cache directory, and the system calls on them. This room makes no decisions and does not
know the index."""
