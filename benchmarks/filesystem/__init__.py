"""The cost of each file operation on a mount, beside a C filesystem and ext4 in the same run."""
