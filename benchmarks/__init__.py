"""Benchmarks. They compare first counts, then ratios to a competitor measured in the same run. They are never
run as tests."""

BOUND_MISSED = 3
"""Exit code of a benchmark that has run, but exceeded one of its bounds on time or memory."""
