"""From a source of an image to a snapshot in a repository."""
