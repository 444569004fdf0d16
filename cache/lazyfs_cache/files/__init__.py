"""What lies in a cache directory, and the system calls on it. Nothing here decides anything, or knows of the
index."""
