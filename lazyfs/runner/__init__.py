"""Starting programs from images with the runtimes a node has."""
