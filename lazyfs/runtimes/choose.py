"""Chooses a runtime that works on this machine."""

from collections.abc import Sequence

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.protocol import Runtime, RuntimeProbe


def choose(runtimes: Sequence[Runtime], wanted: str | None) -> tuple[Runtime, list[RuntimeProbe]]:
    """Returns the first usable runtime, or the `wanted` one, and the results of all probes on the way.

    Raises UsageError with the reasons of all probes if no runtime is usable.
    """
    known = [runtime.name for runtime in runtimes]
    if wanted is not None and wanted not in known:
        raise UsageError(f"runtime {wanted!r} is not known; choose one of: {', '.join(known)}")
    probes = []
    for runtime in runtimes:
        if wanted in (None, runtime.name):
            probes.append(runtime.probe())
            if probes[-1].usable:
                return runtime, probes
    reasons = "; ".join(f"{probe.runtime}: {probe.says}" for probe in probes)
    raise UsageError(f"no usable runtime on this machine: {reasons}")
