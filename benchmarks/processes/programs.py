"""The programs of the analysis image that are started at once, 64 of each kind."""

from typing import Final, NamedTuple

COUNT: Final = 64
"""The number of processes that are started at once."""
_PYTHON: Final = "/usr/bin/python3"
_MODULES: Final = (
    *("argparse", "asyncio", "base64", "bz2", "calendar", "cmd", "code", "configparser", "csv", "ctypes"),
    *("curses", "datetime", "decimal", "difflib", "dis", "doctest", "email.message", "ftplib", "gzip"),
    *("html.parser", "http.client", "http.server", "imaplib", "ipaddress", "json", "logging.config"),
    *("lzma", "mailbox", "multiprocessing.pool", "optparse", "pdb", "plistlib", "sqlite3", "ssl", "tarfile"),
    *("unittest", "uuid", "xml.dom.minidom", "zipfile"),
    *("PIL.Image", "aiohttp", "attr", "cachetools", "click", "cloudpickle", "dateutil.parser", "fsspec"),
    *("jedi", "joblib", "lz4.frame", "markdown_it", "multidict", "numpy", "packaging.version", "pexpect"),
    *("prompt_toolkit", "psutil", "pydantic", "pygments.lexers.python", "pyparsing", "requests"),
    *("rich.console", "traitlets", "yaml"),
)
_COMMANDS: Final = (
    *("arch", "b2sum", "base32", "base64", "basename", "basenc", "cat", "chgrp", "chmod", "chown", "cksum"),
    *("comm", "cp", "csplit", "cut", "date", "dd", "df", "dir", "dircolors", "dirname", "du", "env"),
    *("expand", "expr", "factor", "fmt", "fold", "groups", "head", "hostid", "id", "install", "join", "link"),
    *("ln", "logname", "ls", "md5sum", "mkdir", "mkfifo", "mknod", "mktemp", "mv", "nice", "nl", "nohup"),
    *("nproc", "numfmt", "od", "paste", "pathchk", "pinky", "pr", "printenv", "ptx", "readlink", "realpath"),
    *("rm", "sha256sum", "shred", "shuf", "sort", "split"),
)


class Batch(NamedTuple):
    """Programs that are started at once."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    """The command of each process. Paths are those inside the image."""
    again: int
    """How often the batch is started on warm pages in each round: short ones several times."""


def _python(module: str) -> tuple[str, ...]:
    # -B: writes no bytecode into the unpacked tree, the one side that can be written.
    return (_PYTHON, "-B", "-c", f"import {module}")


BATCHES: Final = (
    Batch("one program", (_python("numpy"),) * COUNT, 1),
    Batch("64 Python programs", tuple(map(_python, _MODULES)), 1),
    Batch("64 small programs", tuple((f"/usr/bin/{name}", "--version") for name in _COMMANDS), 5),
)
