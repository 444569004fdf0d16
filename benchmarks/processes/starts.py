"""The program that starts processes at once: `python starts.py ROOT TIMES < COMMANDS.json`.

Each process changes its root to ROOT when all are ready, and runs its command: nothing stands between it and
the file system, neither a shell nor a container runtime. Prints as JSON the processor seconds of all
processes together and the wall seconds, both of one start of all commands on average over TIMES.
"""

import json
import os
import sys
import tempfile
import time

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"}


def prepare(root: str, command: list[str], barrier: tuple[int, int], errors: int) -> int:
    """Forks a process that runs the command once all writing ends of the pipe `barrier` are closed. Returns
    its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        reading, writing = barrier
        os.close(writing)
        os.read(reading, 1)
        quiet = os.open("/dev/null", os.O_RDWR)
        for number, file in enumerate((quiet, quiet, errors)):
            os.dup2(file, number)
        os.chroot(root)
        os.chdir("/")
        os.execve(command[0], command, ENVIRONMENT)
    finally:
        os._exit(127)


def start(root: str, commands: list[list[str]]) -> tuple[float, float]:
    """Starts all commands at once and waits for them. Returns processor seconds and wall seconds. Raises
    RuntimeError if a command fails."""
    with tempfile.TemporaryFile() as errors:
        barrier = os.pipe()
        running = {prepare(root, command, barrier, errors.fileno()): command for command in commands}
        os.close(barrier[0])
        began = time.perf_counter()
        os.close(barrier[1])
        used = 0.0
        failed = []
        for pid, command in running.items():
            _, status, usage = os.wait4(pid, 0)
            used += usage.ru_utime + usage.ru_stime
            if status:
                failed.append(" ".join(command))
        took = time.perf_counter() - began
        if failed:
            errors.seek(0)
            raise RuntimeError(f"{len(failed)} failed, {failed[:3]}: {errors.read()[:2000].decode()}")
    return used, took


def main() -> None:
    _, root, times = sys.argv
    commands = json.load(sys.stdin)
    measured = [start(root, commands) for _ in range(int(times))]
    used, took = (sum(column) / len(measured) for column in zip(*measured, strict=True))
    print(json.dumps({"cpu_seconds": used, "seconds": took}))


if __name__ == "__main__":
    main()
