"""The cost of each file operation on a mount, compared in the same run with a C filesystem and ext4."""
