"""The programs that are run in the images."""

from typing import Final

import msgspec


class Workload(msgspec.Struct, frozen=True):
    """A command, and the text that its output must contain for a start to count."""

    name: str
    image: str
    command: tuple[str, ...]
    answer: bytes


SHELL: Final = Workload(
    "shell", "shell", ("/bin/sh", "-c", "echo started; ls /bin | wc -l"), answer=b"started\n"
)
ANALYSIS: Final = Workload(
    "analysis", "analysis", ("/usr/bin/python3", "/opt/analysis.py"), answer=b"result 91.20\n"
)
HELLO: Final = Workload(
    "hello", "analysis", ("/usr/bin/python3", "-c", "print('started')"), answer=b"started\n"
)
READ_ALL: Final = Workload(
    "read everything",
    "analysis",
    ("/bin/sh", "-c", "echo started; cd /; tar -cf - bin etc lib opt sbin usr var | wc -c"),
    answer=b"started\n",
)
WORKLOADS: Final = {workload.name: workload for workload in (SHELL, ANALYSIS, HELLO, READ_ALL)}
