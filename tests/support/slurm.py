"""A batch system of one node: Slurm, with daemons, keys, ports and state of its own."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.ports import free_port
from tests.support.until import until

_SETTINGS = """\
ClusterName=tests
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={work}/munge/socket
StateSaveLocation={work}/state
SlurmdSpoolDir={work}/spool
SlurmctldPidFile={work}/slurmctld.pid
SlurmdPidFile={work}/slurmd.pid
SlurmctldLogFile={work}/slurmctld.log
SlurmdLogFile={work}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0
KillWait=2
ReturnToService=2
Prolog={work}/prolog
Epilog={work}/epilog
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """The commands of a running batch system."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.environment = {**os.environ, "SLURM_CONF": str(work / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """Runs one of Slurm's commands; returns its output."""
        done = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self.work,
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def submit(self, script: str, *options: str, user: int | None = None) -> str:
        """Submits a script; returns the job's number. Its output is `work/NUMBER.out`."""
        path = self.work / "jobs" / f"script-{os.urandom(4).hex()}"
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)
        identity = () if user is None else (f"--uid={user}", f"--gid={user}")
        places = (f"--output={self.work}/jobs/%j.out", f"--chdir={self.work}/jobs", "--export=ALL")
        return self.ask("sbatch", "--parsable", *places, *identity, *options, str(path)).strip()

    def state(self, job: str) -> str:
        """Returns the state of a job: PENDING, RUNNING, COMPLETED, TIMEOUT, CANCELLED, OUT_OF_MEMORY..."""
        shown = self.ask("scontrol", "--oneliner", "show", "job", job)
        return shown.split("JobState=")[1].split()[0]

    def output(self, job: str) -> str:
        path = self.work / "jobs" / f"{job}.out"
        return path.read_text() if path.exists() else ""


@contextmanager
def one_node_slurm() -> Iterator[Slurm]:
    """Starts munged, slurmctld and slurmd for the block."""
    with ExitStack() as stack:
        work = Path(tempfile.mkdtemp(prefix="lazyfs-slurm-"))
        stack.callback(shutil.rmtree, work)
        work.chmod(0o755)
        for name in ("munge", "state", "spool", "jobs"):
            (work / name).mkdir()
        (work / "jobs").chmod(0o1777)
        for name in ("prolog", "epilog"):
            (work / name).write_text("#!/bin/sh\nexit 0\n")
            (work / name).chmod(0o755)
        key = work / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host = socket.gethostname()
        ports = {"controller": free_port(), "node": free_port()}
        (work / "slurm.conf").write_text(_SETTINGS.format(host=host, work=work, **ports))
        (work / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        slurm = Slurm(work)
        places = [f"--socket={work}/munge/socket", f"--key-file={key}", f"--pid-file={work}/munge/pid"]
        files = [f"--seed-file={work}/munge/seed", f"--log-file={work}/munge/log"]
        for command in (
            ["munged", "--foreground", "--force", *places, *files],
            ["slurmctld", "-D", "-f", str(work / "slurm.conf")],
            ["slurmd", "-D", "-N", host, "-f", str(work / "slurm.conf")],
        ):
            log = stack.enter_context(open(work / f"{command[0]}.out", "wb"))
            daemon = subprocess.Popen(command, env=slurm.environment, stdout=log, stderr=log)
            stack.callback(daemon.wait, 30)
            stack.callback(daemon.terminate)
            if command[0] == "munged":
                until((work / "munge/socket").exists)
        until(lambda: _is_idle(slurm), 60)
        yield slurm


def _is_idle(slurm: Slurm) -> bool:
    done = subprocess.run(
        ["sinfo", "--noheader", "--format=%T"],
        env=slurm.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() == "idle"
