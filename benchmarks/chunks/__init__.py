"""Counts of a real start at several chunk sizes and catalog sizes. A repository's settings are chosen from
them."""
