"""Benchmarks: counts first, ratios against a peer in the same run; never a test."""

BOUND_MISSED = 3
"""Exit code of a benchmark that ran and missed a bound in time or memory."""
