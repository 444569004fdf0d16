"""The scripts, modules and code that a command gives to an interpreter. Pure."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

_PYTHON_VALUES: Final = "WX"
"""Python's options that take a value."""
_PERL_REST: Final = "0lCdDxFiV"
"""Perl's options that take the rest of their word."""
_MODULE: Final = re.compile(r"[\w:.]+")


class Interpreted(NamedTuple):
    """What an interpreter is told to run; each field is empty if the command does not have it."""

    script: str = ""
    module: str = ""
    """Python's `-m`."""
    code: str = ""
    """Python's `-c`, or Perl's `-e`."""
    modules: tuple[str, ...] = ()
    """Perl's `-M` and `-m`."""
    directories: tuple[str, ...] = ()
    """Perl's `-I`."""


def program_positions(words: Sequence[str], command: int) -> set[int]:
    """Returns the numbers of the words of a command that may name a program: the first one, one after `--`,
    and one that `env` starts. `command`: the number of the first word after an entry point, which may be a
    wrapper such as tini."""
    found = {0, command, *(number + 1 for number, word in enumerate(words) if word == "--")}
    for number in sorted(found):
        if words[number : number + 1] and words[number].rpartition("/")[2] == "env":
            after = number + 1
            while after < len(words) and (words[after].startswith("-") or "=" in words[after]):
                after += 1
            found.add(after)
    return found


def python_command(words: Sequence[str]) -> Interpreted:
    """Returns what the words after `python` in a command run."""
    waiting = list(words)[::-1]
    while waiting:
        word = waiting.pop()
        if not word.startswith("-") or word == "-":
            return Interpreted(script=word if word != "-" else "")
        if word == "--check-hash-based-pycs" and waiting:
            waiting.pop()
        for at, letter in enumerate(word[1:] if not word.startswith("--") else "", 2):
            value = word[at:] or (waiting[-1] if waiting else "")
            if letter == "m":
                return Interpreted(module=value)
            if letter == "c":
                return Interpreted(code=value)
            if letter in _PYTHON_VALUES:
                if not word[at:] and waiting:
                    waiting.pop()
                break
    return Interpreted()


def perl_command(words: Sequence[str]) -> Interpreted:
    """Returns what the words after `perl` in a command run."""
    waiting = list(words)[::-1]
    modules: list[str] = []
    directories: list[str] = []
    code: list[str] = []
    script = ""
    while waiting:
        word = waiting.pop()
        if not word.startswith("-") or word == "-":
            script = word if word != "-" and not code else ""
            break
        for at, letter in enumerate(word[1:] if word != "--" else "", 2):
            if letter in _PERL_REST:
                break
            if letter in "eEIMm":
                value = word[at:] or (waiting.pop() if waiting else "")
                if letter in "eE":
                    code.append(value)
                elif letter == "I":
                    directories.append(value)
                elif matched := _MODULE.match(value.removeprefix("-")):
                    modules.append(matched[0])
                break
    return Interpreted(script, "", "\n".join(code), tuple(modules), tuple(directories))
