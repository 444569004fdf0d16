"""Functions of the operating system that all packages use: mounts, paths in folders of other people,
namespaces, the start of a process."""
