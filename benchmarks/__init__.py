"""Benchmarks. They compare counts first, then ratios to a peer measured in the same run. They are never
tests."""

BOUND_MISSED = 3
"""Exit code of a benchmark that ran and missed a bound in time or memory."""
