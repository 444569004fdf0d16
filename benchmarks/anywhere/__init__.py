"""Conversion by several workers, and publishing into a bucket."""
