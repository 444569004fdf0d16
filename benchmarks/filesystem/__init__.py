"""What a file operation on a mount costs, beside a C filesystem and ext4 in the same run."""
