"""What the kernel alone costs: a C program that answers LOOKUP from a hash table, on the same names.

No filesystem that is asked for each name can be cheaper on the machine at hand, in whatever language.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.filesystem import report
from benchmarks.filesystem.servers import pin

SOURCE = Path(__file__).with_name("floor.c")


def measure(directory: Path, listed: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of the rows about names, pinned; row -> {"value", "cpu", "daemon_cpu"}. Needs root and cc."""
    program, names, mnt = directory / "floor", directory / "names", directory / "mnt-floor"
    subprocess.run(["cc", "-O2", "-o", program, SOURCE], check=True)
    names.write_text("".join(path + "\n" for path in json.loads(listed.read_text())["every"]))
    mnt.mkdir()
    subprocess.run(pin([os.fspath(program), os.fspath(mnt), os.fspath(names)], True), check=True)
    try:
        found = subprocess.run(
            ["pgrep", "-n", "-f", f"^{program} {mnt} "], check=True, capture_output=True, text=True
        )
        command = [sys.executable, "-m", "benchmarks.filesystem.client"]
        command += [os.fspath(mnt), os.fspath(listed), found.stdout.strip(), "names"]
        results = []
        for _ in range(rounds):
            done = subprocess.run(pin(command, True), check=True, capture_output=True, text=True)
            results.append(json.loads(done.stdout))
        return report.medians({"floor": results})["floor"]
    finally:
        subprocess.run(["umount", "-l", mnt], check=True)
