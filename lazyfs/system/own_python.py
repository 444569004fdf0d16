"""Command lines that start this Python again, for every child that is a program of lazyfs.

`-P`: nothing is imported from the working directory. It may be /tmp, where a json.py of another user's would
run with the caller's rights. `-E`: PYTHONPATH and PYTHONHOME are meant for another Python.
"""

import sys
from typing import Final

PYTHON: Final = (sys.executable, "-E", "-P", "-X", "utf8")  # noqa: TID251 - the one place
"""The interpreter, with the options of the installed commands. Follow it with `-m MODULE`."""
LAZYFS: Final = (*PYTHON, "-m", "lazyfs")
"""The command `lazyfs`. Follow it with the name of a command."""
