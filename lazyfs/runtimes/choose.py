"""The choice of a runtime on this machine."""

from collections.abc import Sequence

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.protocol import Runtime, RuntimeProbe


def choose(runtimes: Sequence[Runtime], wanted: str | None) -> tuple[Runtime, list[RuntimeProbe]]:
    """The first usable runtime, or the one asked for, and what every probe on the way said.

    Raises UsageError with all their reasons if there is none.
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
