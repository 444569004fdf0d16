"""Reads the parts of a YAML tree that the formats of wishlists in YAML share: texts, lists of texts, known
keys. In each function `what` names the node in errors."""

from collections.abc import Iterable

from lazyfs.core.wishlist.findings import Findings, Refused, quoted
from lazyfs.core.wishlist.yaml_tree import Mapping, Node, Scalar, Sequence


def text(node: Node, what: str) -> str:
    """Returns a scalar's text. Raises Refused for an empty scalar and for any other node."""
    if not isinstance(node, Scalar):
        raise Refused(node.line, f"{what} is a {_kind(node)}", "write one value")
    if node.absent:
        raise Refused(node.line, f"{what} is empty", "write a value or leave it out")
    if not node.text.isprintable():
        raise Refused(node.line, f"{what} has characters that are not printable: {quoted(node.text)}")
    return node.text.strip()


def items(node: Node, what: str) -> list[Node]:
    """Returns the items of a list; no items if the node is absent. Raises Refused for another node."""
    if isinstance(node, Scalar) and node.absent:
        return []
    if not isinstance(node, Sequence):
        raise Refused(node.line, f"{what} is a {_kind(node)}", "write a list, one `- VALUE` a line")
    return node.items


def texts(node: Node, what: str) -> list[tuple[int, str]]:
    """Returns (line, text) of each item of a list; a single text counts as a list of one."""
    if isinstance(node, Scalar) and not node.absent:
        return [(node.line, text(node, what))]
    return [(item.line, text(item, what)) for item in items(node, what)]


def mapping(node: Node, what: str) -> Mapping:
    """Returns the node unchanged if it is a mapping. Raises Refused otherwise."""
    if not isinstance(node, Mapping):
        raise Refused(node.line, f"{what} is a {_kind(node)}", "write KEY: VALUE")
    return node


def know(node: Mapping, known: Iterable[str], idle: Iterable[str], findings: Findings) -> None:
    """Adds an error for each key that is neither in `known` nor in `idle`, and a notice for each key in
    `idle`, because such keys have no effect."""
    known = [*known]
    idle = [*idle]
    for key, line in node.lines.items():
        if key == "<<":
            findings.error(line, "merge keys (<<) are not read", "write the keys out")
        elif key in idle:
            findings.once(key, line, f"{key} has no effect here")
        elif key not in known and not key.startswith("x-"):
            findings.error(line, f"{quoted(key)} is no key of this format", f"there are {', '.join(known)}")


def number(node: Node, what: str, most: int) -> int:
    """Returns the natural number, at most `most`, that a scalar states. Raises Refused."""
    stated = text(node, what)
    if not (stated.isascii() and stated.isdigit()) or len(stated) > 9 or int(stated) > most:
        raise Refused(node.line, f"{what} {quoted(stated)} is no number from 0 to {most}")
    return int(stated)


def _kind(node: Node) -> str:
    return {Mapping: "mapping", Sequence: "list", Scalar: "single value"}[type(node)]
