"""The files in a cache directory, and the system calls on them. Nothing here decides anything, or knows of
the index."""
