"""Turns a source of an image into a snapshot in a repository."""
