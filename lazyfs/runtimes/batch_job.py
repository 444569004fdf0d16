"""Finds out whether this process is a job of a batch system, which limits and ends jobs by their control
groups."""

import re
from collections.abc import Mapping
from typing import Final

_VARIABLES: Final = {
    "SLURM_JOB_ID": "Slurm",
    "_CONDOR_SCRATCH_DIR": "HTCondor",
    "PBS_JOBID": "PBS",
    "LSB_JOBID": "LSF",
    "SGE_TASK_ID": "Grid Engine",
    "OAR_JOB_ID": "OAR",
}
_GROUP = re.compile(
    r"(?P<Slurm>/slurm)|(?P<HTCondor>/htcondor|/condor_)|(?P<PBS>/pbs_jobs|/pbspro)", re.IGNORECASE
)


def batch_system(environment: Mapping[str, str], groups: str) -> str | None:
    """Returns the name of the batch system that this process is a job of; None outside of one.

    `groups`: the content of /proc/self/cgroup, which names the batch system even if the job has cleaned its
    environment.
    """
    for variable, name in _VARIABLES.items():
        if environment.get(variable):
            return name
    found = _GROUP.search(groups)
    return None if found is None else found.lastgroup


def own_batch_system(environment: Mapping[str, str]) -> str | None:
    """Reads /proc/self/cgroup, and returns the name of the batch system that this process is a job of; None
    outside of one."""
    try:
        with open("/proc/self/cgroup") as file:
            return batch_system(environment, file.read())
    except OSError:
        return batch_system(environment, "")
