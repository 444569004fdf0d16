"""The operating system for every room: mounts, paths, namespaces, and the state a process starts from."""
