"""Measures publishing to a bucket, and publishing with other processes that convert the images."""
