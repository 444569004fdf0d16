# Its libraries are in the image, not here.
# mypy: ignore-errors
"""The job of the Python image: it solves a linear system with numpy."""

print("started", flush=True)

import numpy  # noqa: E402

generator = numpy.random.default_rng(7)
matrix = generator.normal(size=(200, 200)) + 200 * numpy.eye(200)
solved = numpy.linalg.solve(matrix, matrix @ numpy.ones(200))
print(f"result {solved.sum():.1f}", flush=True)
