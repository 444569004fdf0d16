"""The entries that an image needs to be run from a read-only root: bind points, and start-up files of
Apptainer.

The names are those that `apptainer build` and DUCC make (`.singularity.d`, its links, the directories); the
scripts are written from the image's config: environment, entrypoint, command, working directory, labels.
"""

import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from lazyfs.core.oci.container_config import RunConfig
from lazyfs.core.oci.manifest import Config
from lazyfs.core.oci.run_config import DEFAULT_PATH

BIND_POINTS = {
    "dev": 0o755,
    "proc": 0o555,
    "sys": 0o555,
    "root": 0o700,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
    "etc": 0o755,
    "home": 0o755,
    "srv": 0o755,
    "cvmfs": 0o755,
}
MOST_NAME, MOST_BIND_PATH = 255, 1024
EMPTY_FILES = ("etc/hosts", "etc/resolv.conf")
"""Files over which runtimes bind the host's."""
LINKS = {
    "singularity": ".singularity.d/runscript",
    "environment": ".singularity.d/env/90-environment.sh",
    ".run": ".singularity.d/actions/run",
    ".exec": ".singularity.d/actions/exec",
    ".test": ".singularity.d/actions/test",
    ".shell": ".singularity.d/actions/shell",
}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SOURCE = """#!/bin/sh
for script in /.singularity.d/env/*.sh; do
    if [ -f "$script" ]; then
        . "$script"
    fi
done
"""


class Addition(NamedTuple):
    """One entry to add at a path where the image has nothing."""

    path: str
    mode: int
    """st_mode."""
    data: bytes = b""
    """A file's bytes, or a symbolic link's target."""


def bind_point(path: str) -> str:
    """Returns a bind point as a path inside an image: `afs` for `/afs`. `path`: absolute, as the operator
    writes it.

    Raises ValueError for a path that is not absolute, leads upwards, or has names that no filesystem takes.
    """
    if not path.startswith("/"):
        raise ValueError("not an absolute path")
    parts = [part for part in path.split("/") if part]
    if not parts or any(part in (".", "..") for part in parts):
        raise ValueError("the root or a way upwards is no bind point")
    if len(path) > MOST_BIND_PATH or any(len(part.encode()) > MOST_NAME for part in parts):
        raise ValueError(f"over {MOST_NAME} bytes in a name or {MOST_BIND_PATH} in all")
    if not path.isprintable():
        raise ValueError("characters that are not printable")
    return "/".join(parts)


def additions(config: Config, bind_points: Iterable[str] = ()) -> Iterator[Addition]:
    """Yields the entries to add to an image with this config, directories before their content.

    `bind_points`: directories beyond BIND_POINTS, as `bind_point` returns them.
    """
    for path, mode in BIND_POINTS.items():
        yield Addition(path, stat.S_IFDIR | mode)
    for path in bind_points:
        yield Addition(path, stat.S_IFDIR | 0o755)
    for path in EMPTY_FILES:
        yield Addition(path, stat.S_IFREG | 0o644)
    for path in ("", "/actions", "/env", "/libs"):
        yield Addition(f".singularity.d{path}", stat.S_IFDIR | 0o755)
    run = config.config or RunConfig()
    scripts = {
        "actions/exec": _SOURCE + 'exec "$@"\n',
        "actions/run": _SOURCE + 'exec /.singularity.d/runscript "$@"\n',
        "actions/shell": _SOURCE
        + 'if [ -x /bin/bash ]; then\n    exec /bin/bash --norc "$@"\nfi\nexec /bin/sh "$@"\n',
        "actions/start": _SOURCE + 'exec /.singularity.d/startscript "$@"\n',
        "actions/test": _SOURCE + "echo 'No test script in this image' >&2\n",
        "env/01-base.sh": "#!/bin/sh\n# The environment of the image is in 10-docker2singularity.sh.\n",
        "env/10-docker2singularity.sh": _environment(run),
        "env/90-environment.sh": "#!/bin/sh\n# Custom environment shell code should follow\n",
        "env/95-apps.sh": "#!/bin/sh\n",
        "env/99-base.sh": '#!/bin/sh\nif [ -z "${LD_LIBRARY_PATH-}" ]; then\n'
        '    LD_LIBRARY_PATH="/.singularity.d/libs"\nelse\n'
        '    LD_LIBRARY_PATH="$LD_LIBRARY_PATH:/.singularity.d/libs"\nfi\nexport LD_LIBRARY_PATH\n',
        "env/99-runtimevars.sh": '#!/bin/sh\nif [ -n "${SING_USER_DEFINED_PATH-}" ]; then\n'
        '    PATH="$SING_USER_DEFINED_PATH"\nfi\n'
        'if [ -n "${SING_USER_DEFINED_PREPEND_PATH-}" ]; then\n'
        '    PATH="$SING_USER_DEFINED_PREPEND_PATH:$PATH"\nfi\n'
        'if [ -n "${SING_USER_DEFINED_APPEND_PATH-}" ]; then\n'
        '    PATH="$PATH:$SING_USER_DEFINED_APPEND_PATH"\nfi\nexport PATH\n',
        "runscript": _runscript(run),
        "startscript": "#!/bin/sh\n",
    }
    for path, text in scripts.items():
        yield Addition(
            f".singularity.d/{path}", stat.S_IFREG | 0o755, text.encode("utf-8", "surrogateescape")
        )
    labels = msgspec.json.format(msgspec.json.encode(dict(sorted((run.labels or {}).items()))), indent=2)
    yield Addition(".singularity.d/labels.json", stat.S_IFREG | 0o644, labels + b"\n")
    for path, target in LINKS.items():
        yield Addition(path, stat.S_IFLNK | 0o777, target.encode())


def _environment(run: RunConfig) -> str:
    """Returns a script that sets the image's variables, unless the caller has set them; PATH is always the
    image's, as in every runtime."""
    lines = ["#!/bin/sh"]
    variables = run.environment
    variables.setdefault("PATH", DEFAULT_PATH)
    for name, value in variables.items():
        if not _NAME.fullmatch(name) or "\0" in value:
            continue
        quoted = shlex.quote(value)
        lines.append(f"{name}={quoted}" if name == "PATH" else f"{name}=${{{name}-{_inside_braces(value)}}}")
        lines.append(f"export {name}")
    return "\n".join(lines) + "\n"


def _inside_braces(value: str) -> str:
    """Returns the value as a word for ${name-word}: in single quotes, each single quote in it escaped."""
    return "'" + value.replace("'", "'\\''") + "'"


def _runscript(run: RunConfig) -> str:
    """Returns a script that runs entrypoint and command as OCI defines: arguments replace the command."""
    entrypoint = " ".join(shlex.quote(word) for word in run.entrypoint or [])
    command = " ".join(shlex.quote(word) for word in run.cmd or [])
    lines = ["#!/bin/sh"]
    if run.working_dir:
        # Batch jobs start in the directory of their data; WorkingDir is only for a process that starts at the
        # root.
        lines += [
            'if [ "$PWD" = / ]; then',
            f"    cd {shlex.quote(run.working_dir)} || exit 1",
            "fi",
        ]
    if command or not entrypoint:
        lines += ["if [ $# -eq 0 ]; then", f"    set -- {command or '/bin/sh'}", "fi"]
    lines.append(f'exec {entrypoint} "$@"' if entrypoint else 'exec "$@"')
    return "\n".join(lines) + "\n"
