"""What the operating system offers, for every room: the mount table."""
