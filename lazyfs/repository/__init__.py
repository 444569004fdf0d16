"""One tree of images under one signed root: keys, edits, commits, history."""
