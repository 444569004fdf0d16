"""Counts of a real start at several chunk sizes and catalog sizes, from which a repository's settings are
chosen."""
