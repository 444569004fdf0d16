"""YAML as a tree of texts with line numbers: a scalar is the text that stands there, so 3.10 is not 3.1.

YAML tags have no effect. Only aliases are expanded, and their copies count towards MOST_NODES. A key that
stands twice in a mapping does not count at all, and both lines are named. A line that breaks the syntax is
left out if it is one item of a list; else the list cannot be read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from lazyfs.core.wishlist.findings import Findings, Refused, quoted

MOST_NODES = 200_000
"""The largest number of nodes of one list, copies of aliases included: 50,000 wishes with three keys each."""
MOST_DEPTH = 32
MOST_REPAIRS = 20
"""The largest number of lines that are left out; if more are unreadable, the whole list is refused."""


@dataclass(frozen=True)
class Scalar:
    """A node that is a text."""

    line: int
    text: str
    absent: bool = False
    """True if the document has no text there, or has `~` or `null`."""


@dataclass
class Sequence:
    """A node that is a list."""

    line: int
    items: list["Node"] = field(default_factory=list)


@dataclass
class Mapping:
    """Keys and values in their order; `repeated` holds each key that stands there twice, with the lines of
    both."""

    line: int
    values: dict[str, "Node"] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, list[int]] = field(default_factory=dict)


Node = Scalar | Sequence | Mapping

_Event = yaml.Event
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(text: str, findings: Findings) -> Node:
    """Returns the tree of one document; single lines that make it unreadable are left out, and become
    findings.

    Raises Refused for a text that is no YAML, or for one that has several documents or too many nodes.
    """
    lines = text.split("\n")
    for _ in range(MOST_REPAIRS):
        try:
            return _tree("\n".join(lines), findings)
        except yaml.MarkedYAMLError as error:
            at = _faulty_item(lines, error)
            reason = f"not YAML: {error.problem or error.context or 'syntax error'}"
            if at is None:
                raise Refused(_line_of(error), reason, "the list cannot be read") from None
            findings.error(at + 1, f"{reason}: {quoted(lines[at].strip())}", "put the value in single quotes")
            lines[at] = ""
        except yaml.YAMLError as error:
            raise Refused(0, f"not YAML: {quoted(str(error))}") from None
    raise Refused(0, f"not YAML: over {MOST_REPAIRS} lines that break its syntax")


def _line_of(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 0


def _faulty_item(lines: list[str], error: yaml.MarkedYAMLError) -> int | None:
    """Returns the index of the line that is to blame for an error: the line is an item of a list, and without
    it the parser gets further. Returns None if there is none."""
    stopped = _line_of(error) - 1
    marks = [mark.line for mark in (error.context_mark, error.problem_mark) if mark]
    for at in dict.fromkeys(line for mark in marks for line in (mark, mark - 1)):
        if _is_one_item(lines, at):
            shorter = [*lines[:at], "", *lines[at + 1 :]]
            try:
                for _ in yaml.parse("\n".join(shorter), Loader=_Loader):
                    pass
                return at
            except yaml.MarkedYAMLError as further:
                if _line_of(further) - 1 > max(stopped, at):
                    return at
            except yaml.YAMLError:
                continue
    return None


def _is_one_item(lines: list[str], at: int) -> bool:
    """Returns True if the line is a whole item of a list: the next line is indented no further."""
    if not 0 <= at < len(lines) or not lines[at].lstrip(" ").startswith("- "):
        return False
    indent = len(lines[at]) - len(lines[at].lstrip(" "))
    for line in lines[at + 1 :]:
        if line.strip() and not line.strip().startswith("#"):
            return len(line) - len(line.lstrip(" ")) <= indent
    return True


class _Builder:
    """Makes the tree from the parser's events, without recursion."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._open: list[Sequence | Mapping] = []
        self._keys: list[Scalar | None] = []
        self._anchors: dict[str, Node | None] = {}
        self._anchor_of: list[str | None] = []
        self._sizes: dict[int, int] = {}
        self._nodes = 0
        self.root: Node | None = None

    def take(self, event: _Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 0
        match event:
            case yaml.ScalarEvent():
                self._scalar(event, line)
            case yaml.SequenceStartEvent():
                self._begin(Sequence(line), event, line)
            case yaml.MappingStartEvent():
                self._begin(Mapping(line), event, line)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._end()
            case yaml.AliasEvent():
                self._alias(event, line)
            case yaml.DocumentStartEvent():
                if self.root is not None:
                    raise Refused(line, "a second YAML document", "put it into a file of its own")

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        plain = event.implicit[0]
        if event.tag is not None and event.tag.startswith("!") and not event.value:
            raise Refused(
                line, f"{quoted(event.tag)} is a YAML tag", "put a value that begins with ! in quotes"
            )
        absent = plain and event.value in ("", "~", "null", "Null", "NULL")
        node = Scalar(line, event.value, absent)
        if event.anchor:
            self._anchors[event.anchor] = node
        self._count(1, line)
        self._hang(node)

    def _begin(self, node: "Sequence | Mapping", event: yaml.NodeEvent, line: int) -> None:
        if len(self._open) >= MOST_DEPTH:
            raise Refused(line, f"lists and mappings more than {MOST_DEPTH} deep")
        self._count(1, line)
        if event.anchor:
            self._anchors[event.anchor] = None  # until it ends, so that it cannot hold itself
        self._open.append(node)
        self._keys.append(None)
        self._anchor_of.append(event.anchor)
        self._sizes[id(node)] = self._nodes

    def _end(self) -> None:
        node = self._open.pop()
        self._keys.pop()
        anchor = self._anchor_of.pop()
        self._sizes[id(node)] = self._nodes - self._sizes[id(node)] + 1
        if anchor:
            self._anchors[anchor] = node
        if isinstance(node, Mapping):
            for key in node.repeated:
                node.values.pop(key, None)
        self._hang(node)

    def _alias(self, event: yaml.AliasEvent, line: int) -> None:
        node = self._anchors.get(event.anchor or "")
        if node is None:
            raise Refused(line, f"the alias *{event.anchor} names no value above", "put * in quotes")
        self._count(self._sizes.get(id(node), 1), line)
        self._hang(node)

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise Refused(line, f"over {MOST_NODES} values, copies of aliases included")

    def _hang(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        above = self._open[-1]
        if isinstance(above, Sequence):
            above.items.append(node)
            return
        key = self._keys[-1]
        if key is None:
            if not isinstance(node, Scalar):
                raise Refused(node.line, "a key that is a list or a mapping", "keys are texts")
            self._keys[-1] = node
            return
        self._keys[-1] = None
        if key.text in above.lines:
            seen = above.repeated.setdefault(key.text, [above.lines[key.text]])
            seen.append(key.line)
            lines = " and ".join(map(str, seen[-2:]))
            mend = "leave one of them out; until then neither counts"
            self._findings.error(
                key.line, f"the key {quoted(key.text)} is there twice, in lines {lines}", mend
            )
        above.lines.setdefault(key.text, key.line)
        above.values[key.text] = node


def _tree(text: str, findings: Findings) -> Node:
    # kept apart: a text that is mended is parsed again, and its findings would be there twice
    mine = Findings()
    builder = _Builder(mine)
    events: Iterator[_Event] = yaml.parse(text, Loader=_Loader)
    for event in events:
        builder.take(event)
    for finding in mine.all():
        findings.add(finding)
    return builder.root if builder.root is not None else Scalar(0, "", absent=True)
