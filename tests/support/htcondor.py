"""HTCondor's own reader of submit files."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_PACKAGE = (
    "htcondor==23.10.29 --hash=sha256:a9d571242066a284ce2ae38c3803bcdbc571868a989f28fcc6c236884e6fb53b\n"
)
"""For x86_64. Version 25 has no reader in Python any more; at 60 MB it is no part of the checkout's own
packages."""
_READER = """
import json, sys, warnings
warnings.simplefilter("ignore")
import htcondor
submit = htcondor.Submit(sys.stdin.read())
jobs = submit.jobs(count=int(sys.argv[1]), clusterid=1)
json.dump([{name: str(job.get(name)) for name in sys.argv[2:]} for job in jobs], sys.stdout)
"""


def read_jobs(text: str, count: int, names: Sequence[str], directory: Path) -> list[dict[str, str]]:
    """Returns the named attributes of each of the first `count` jobs that a submit file makes. Installs the
    reader below `directory`."""
    packages = directory / "htcondor"
    if not packages.exists():
        (directory / "requirements").write_text(_PACKAGE)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "--target", packages, "-r", directory / "requirements"], check=True)
    done = subprocess.run(
        [sys.executable, "-c", _READER, str(count), *names],
        env={**os.environ, "PYTHONPATH": str(packages), "CONDOR_CONFIG": os.devnull},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found
