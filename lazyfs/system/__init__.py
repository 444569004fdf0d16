"""Services of the operating system for every room: mounts, paths in strangers' folders, isolation."""
