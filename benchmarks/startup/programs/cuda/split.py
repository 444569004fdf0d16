# Its first output comes before its imports, and its libraries are in the image, not here.
# ruff: noqa: E402
# mypy: ignore-errors
"""A step of a training workflow that uses none of the large libraries: it splits the samples."""

print("started", flush=True)

import numpy

samples = numpy.random.default_rng(7).permutation(100_000)
parts = numpy.split(samples, [80_000, 90_000])
print(" ".join(str(int(part.sum())) for part in parts))
print(f"result {len(parts)}", flush=True)
