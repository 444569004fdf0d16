"""The imports of a Python module's source that run when the module is imported. Pure.

The source is a stranger's, and may be of any version of Python. So Python's own parser does not read it: it
refuses what is newer than itself, and can be made to use up the stack. The reader here looks at the lines
that begin with a keyword, takes a time linear in the length, and raises for no bytes. It may err on a line of
an expression in brackets that begins like a statement, which is good enough for a guess.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

SOURCE: Final = 1 << 20
"""The largest number of bytes of one source that are read; the largest module of numpy or sympy has half of
that."""
IMPORTS: Final = 1024
"""The largest number of imports that are taken from one source."""
NAMES: Final = 512
"""The largest number of names of one import statement."""

_TEXT: Final = re.compile(
    rb"""
    \#[^\n]*+
    | \"\"\"(?:[^\\"]++|\\.|"(?!""))*+(?:\"\"\"|\Z)
    | '''(?:[^\\']++|\\.|'(?!''))*+(?:'''|\Z)
    | "(?:[^\\"\n]++|\\.)*+"?
    | '(?:[^\\'\n]++|\\.)*+'?
    | \\\n
    """,
    re.VERBOSE | re.DOTALL,
)
"""Comments, strings, and the ends of lines that go on in the next one."""
_KEPT: Final = re.compile(rb"""["'](?:__main__|linux|posix)["']""")
"""Strings that the conditions of `if` compare names and platforms with; all other strings are left out."""
_STATEMENT: Final = re.compile(
    rb"^([ \t]*+)(import|from|def|async|class|if|elif|else|try|except|finally|with|for|while|match|case)\b"
    rb"([^\n]*+)",
    re.MULTILINE,
)
_INLINE: Final = re.compile(rb":[ \t]*+((?:import|from)\b.*+)")
"""An import in the line of the block that it belongs to, `try: import x`."""
_FROM: Final = re.compile(rb"[ \t]*+(\.[. \t]*+)?((?:(?!import\b)[\w.]++)?)[ \t]*+\bimport\b(.*+)", re.DOTALL)
_DOTTED: Final = re.compile(rb"[A-Za-z_]\w*+(?:\.[A-Za-z_]\w*+)*+")
_NAME: Final = re.compile(rb"[A-Za-z_]\w*+")
_NOT_HERE: Final = re.compile(
    rb"[ \t(]*+(?:\w++\.)?TYPE_CHECKING\b"
    rb"|[ \t(]*+(?:sys\.platform|os\.name)[ \t]*+(?:==[ \t]*+''|!=[ \t]*+[\"'](?:linux|posix))"
)
"""Conditions that are false when a program runs on Linux."""
_MAIN: Final = re.compile(rb"[ \t(]*+__name__[ \t]*+==")

_ALIAS: Final = re.compile(rb"(?<![\w.])([\w.]++)[ \t]++as[ \t]++([A-Za-z_]\w*+)")
_ATTRIBUTE: Final = re.compile(rb"(?<![\w.])([A-Za-z_]\w*+)\.([A-Za-z_]\w*+)")
_CALLED: Final = re.compile(rb"""\b__import__\([ ]?["']([A-Za-z_][\w.]*+)["']""")
_STRING: Final = re.compile(rb"(?<=\0)[A-Za-z_]\w*+(?:\.[A-Za-z_]\w*+)*+(?=\0)")


class Import(NamedTuple):
    """One import of a module: `import MODULE`, or `from MODULE import NAMES`."""

    module: bytes
    """Dotted name; empty in `from . import x`."""
    level: int
    """Number of dots before the module's name; 0 for an absolute import."""
    names: tuple[bytes, ...]
    """The names after `import` in a `from` import, each of which may be a module; `*` is left out."""
    instead: "tuple[Import, ...] | None" = None
    """None for an import that always runs. For one of an `except` block, the imports of the `try` block: it
    runs if one of these finds nothing."""


class _Block(NamedTuple):
    indent: int
    keyword: bytes
    skipped: bool
    """True if the block's statements do not run at import."""
    own: list[Import]
    """The imports in the block, if it is a `try`."""
    instead: tuple[Import, ...] | None


def module_imports(source: bytes, *, is_main: bool = False) -> list[Import]:
    """Returns the imports that run when a module is imported, in their order: those at its top level, and in
    the classes and conditions there. Conditions count as true, except those that are false on Linux or at any
    run (TYPE_CHECKING). `is_main`: True for the source of a script: its `__main__` block runs too, and an
    attribute of a module, `numpy.random`, may be a module that is imported when it is used."""
    source = source[:SOURCE].removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    text = _TEXT.sub(_blanked, source)
    found = _Reader(text, is_main).imports()
    return [*found, *_attributes(text, found)] if is_main else found


def _attributes(text: bytes, imports: list[Import]) -> list[Import]:
    """Returns the attributes of imported modules that a source names, as imports."""
    modules = {one.module: one.module for one in imports if not one.level}
    modules |= {alias: module for module, alias in _ALIAS.findall(text) if module in modules}
    found: dict[Import, None] = {}
    for matched in _ATTRIBUTE.finditer(text):
        module = modules.get(matched[1])
        if module is not None:
            found[Import(module, 0, (matched[2],))] = None
            if len(found) >= NAMES:
                break
    return list(found)


def line_imports(line: bytes) -> list[Import]:
    """Returns the imports of a line of code in a `.pth` file: statements, and calls of `__import__`."""
    called = (Import(name, 0, ()) for name in _CALLED.findall(line) if _DOTTED.fullmatch(name))
    return [*module_imports(line), *called][:IMPORTS]


def names_in(extension: bytes) -> Iterator[bytes]:
    """Yields the strings of a compiled extension module that have the form of a dotted name. Those of the
    modules that the extension imports are among them."""
    return (matched[0] for matched in _STRING.finditer(extension))


def _blanked(matched: re.Match[bytes]) -> bytes:
    text = matched[0]
    if text[:1] == b"#":
        return b""
    if text[:1] == b"\\":
        return b" "
    return text if _KEPT.fullmatch(text) else b"''"


class _Reader:
    """A pass over one source without comments and strings."""

    def __init__(self, text: bytes, is_main: bool) -> None:
        self._text = text
        self._is_main = is_main
        self._blocks: list[_Block] = []
        """The blocks around the current line, from the outermost."""
        self._found: list[Import] = []

    def imports(self) -> list[Import]:
        at = 0
        while len(self._found) < IMPORTS and (matched := _STATEMENT.search(self._text, at)):
            at = matched.end()
            indent, keyword, rest = len(matched[1].expandtabs()), matched[2], matched[3]
            ended = self._close(indent)
            if keyword not in (b"import", b"from"):
                self._open(indent, keyword, rest, ended)
                inline = _INLINE.search(rest)
                if inline is None:
                    continue
                keyword, _, rest = inline[1].partition(b" ")
            elif b"(" in rest and b")" not in rest:
                end = self._text.find(b")", at)
                if end < 0:
                    break  # nothing after an open bracket is a statement
                rest, at = rest + self._text[at:end], end
            if not (self._blocks and self._blocks[-1].skipped):
                self._add(keyword, rest)
        return self._found

    def _close(self, indent: int) -> _Block | None:
        """Ends the blocks that a statement with this indentation is not in. Returns the one that began with
        the same indentation; None if there is none."""
        ended = None
        while self._blocks and self._blocks[-1].indent >= indent:
            ended = self._blocks.pop()
        return ended if ended is not None and ended.indent == indent else None

    def _open(self, indent: int, keyword: bytes, rest: bytes, ended: _Block | None) -> None:
        above = self._blocks[-1] if self._blocks else None
        skipped = bool(above and above.skipped) or keyword in (b"def", b"async")
        if keyword in (b"if", b"elif"):
            skipped |= bool(_NOT_HERE.match(rest) or (_MAIN.match(rest) and not self._is_main))
        instead = above.instead if above else None
        own = above.own if above else []
        if keyword == b"try":
            own = []
        elif keyword == b"except":
            instead = tuple(ended.own) if ended and ended.keyword in (b"try", b"except") else ()
            own = ended.own if ended and ended.keyword in (b"try", b"except") else []
        self._blocks.append(_Block(indent, keyword, skipped, own, instead))

    def _add(self, keyword: bytes, rest: bytes) -> None:
        instead = self._blocks[-1].instead if self._blocks else None
        for one in _parsed(keyword, rest, instead):
            if self._blocks and instead is None:
                self._blocks[-1].own.append(one)
            self._found.append(one)


def _parsed(keyword: bytes, rest: bytes, instead: tuple[Import, ...] | None) -> Iterator[Import]:
    """Yields the imports of one statement, and of those after it in the same line."""
    for number, part in enumerate(rest.split(b";", NAMES)[:NAMES]):
        if number:
            keyword, _, part = part.strip().partition(b" ")
        if keyword == b"import":
            for module in _words(part, _DOTTED):
                yield Import(module, 0, (), instead)
        elif keyword == b"from" and (matched := _FROM.match(part)):
            level = (matched[1] or b"").count(b".")
            if (level or matched[2]) and (not matched[2] or _DOTTED.fullmatch(matched[2])):
                yield Import(matched[2], level, tuple(_words(matched[3], _NAME)), instead)


def _words(text: bytes, pattern: re.Pattern[bytes]) -> Iterator[bytes]:
    """Yields the first word of each part between commas, if it has the form of a name."""
    for part in text.strip(b" \t\n()").split(b",", NAMES)[:NAMES]:
        words = part.split(None, 1)
        if words and pattern.fullmatch(words[0]):
            yield words[0]
