"""The operating system for every room: mounts, paths in strangers' folders, namespaces, a clean process."""
