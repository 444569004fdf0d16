# Its first output comes before its imports, and its libraries are in the image, not here.
# ruff: noqa: E402
# mypy: ignore-errors
"""The job of the analysis image: it prints its first output, then does a small but typical analysis.

It makes a hundred thousand muon pairs, writes them to a ROOT file, reads them back, and fits the peak.
"""

print("started", flush=True)

import tempfile

import awkward
import numpy
import pandas
import uproot
from scipy.optimize import curve_fit

generator = numpy.random.default_rng(7)
mass = numpy.concatenate([generator.normal(91.2, 2.5, 40_000), generator.uniform(60, 120, 60_000)])
with tempfile.TemporaryDirectory() as place:
    with uproot.recreate(f"{place}/events.root") as output:
        output["events"] = {"mass": mass, "weight": numpy.ones_like(mass)}
    with uproot.open(f"{place}/events.root") as written:
        events = written["events"].arrays()
inside = events[(events.mass > 60) & (events.mass < 120)]
table = pandas.DataFrame({"mass": awkward.to_numpy(inside.mass)})
counts, edges = numpy.histogram(table.mass, bins=120, range=(60, 120))


def shape(x, peak, width, height, level):
    """A Gaussian on a flat background."""
    return height * numpy.exp(-0.5 * ((x - peak) / width) ** 2) + level


best, _ = curve_fit(shape, (edges[1:] + edges[:-1]) / 2, counts, p0=(90, 2, 1000, 400))
print(f"result {best[0]:.2f}", flush=True)
