"""Benchmarks: counts first, ratios against a peer in the same run; never a test."""
