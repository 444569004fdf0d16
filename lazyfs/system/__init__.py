"""The operating system for every package: mounts, paths in strangers' folders, namespaces, a clean
process."""
