"""lazyfs's own list: `lazyfs: 1`, `defaults`, and `images`, each a text or a mapping.

lazyfs: 1
defaults: {owner: physics}
images:
  - registry.example/physics/analysis:1.2
  - image: registry.example/physics/analysis:*
    exclude: ['*-debug']
    keep-last: 5
  - '!registry.example/physics/analysis:*-rc*'
"""

import re
import shlex
from typing import NamedTuple

from lazyfs.core.oci.start_files import bind_point
from lazyfs.core.wishlist import cern, patterns
from lazyfs.core.wishlist.fields import items, know, mapping, number, text, texts
from lazyfs.core.wishlist.findings import Findings, Refused, quoted
from lazyfs.core.wishlist.patterns import Pattern
from lazyfs.core.wishlist.regsync import platforms
from lazyfs.core.wishlist.wish import CREATED, LAYOUTS, VERSION, Extras, Retention, TagChoice, Wish, compiled
from lazyfs.core.wishlist.yaml_tree import Mapping, Node, Scalar

KEYS = ("lazyfs", "defaults", "images")
EXTRAS = ("bind-points", "layout", "owner", "platforms", "profile")
RETENTION = ("keep-last", "keep-by", "newer-than")
ENTRY_KEYS = ("image", "exclude", "regex", "semver", *RETENTION, *EXTRAS)
MOST_KEPT = 100_000
MOST_WORDS, MOST_COMMAND = 100, 4000
"""The largest number of words of a command to record, and of all their characters together."""
MOST_DAYS = 36_500
_DAYS = {"d": 1, "w": 7, "y": 365}
_AGE = re.compile(r"([0-9]{1,5})([dwy])")
_OWNER = re.compile(r"[A-Za-z0-9_.@+-]{1,100}")


class _Exclusion(NamedTuple):
    """An item of the list that begins with `!`: it names images of a registry's repository that are not
    wished."""

    name: str
    """registry/repository"""
    pattern: Pattern
    shown: str


def read(document: Mapping, findings: Findings) -> list[Wish]:
    """Returns the wishes of the list. Parts that cannot be read become findings."""
    know(document, KEYS, (), findings)
    wishes: list[Wish] = []
    exclusions: list[_Exclusion] = []
    try:
        defaults = mapping(document.values["defaults"], "defaults") if "defaults" in document.values else None
        base = Extras()
        if defaults is not None:
            know(defaults, EXTRAS, (), findings)
            base = _extras(defaults, base)
        nodes = items(document.values["images"], "images") if "images" in document.values else []
    except Refused as refused:
        findings.add(refused.finding)
        return wishes
    for node in nodes:
        try:
            if isinstance(node, Scalar) and node.text.startswith("!"):
                exclusions.append(_exclusion(node, findings))
            elif not (isinstance(node, Mapping) and node.repeated):
                wishes.append(_wish(node, base, findings))
        except Refused as refused:
            findings.add(refused.finding)
    return [kept for wish in wishes if (kept := _without(wish, exclusions, findings))]


def _wish(node: Node, base: Extras, findings: Findings) -> Wish:
    if isinstance(node, Scalar):
        return cern.wish_of(node.line, text(node, "an image"), findings, base)
    entry = mapping(node, "an image")
    know(entry, ENTRY_KEYS, (), findings)
    if "image" not in entry.values:
        raise Refused(entry.line, "an entry without image", "write image: REGISTRY/REPOSITORY:TAG")
    line, name = entry.values["image"].line, text(entry.values["image"], "image")
    extras = _extras(entry, base)
    by_pattern = [key for key in ("regex", "semver") if key in entry.values]
    if by_pattern and ":" not in name.rpartition("/")[2]:
        name += ":*"
    wish = cern.wish_of(line, name, findings, extras)
    choice = wish.choice
    narrowing = [key for key in ("exclude", *by_pattern, *RETENTION) if key in entry.values]
    if choice is None:
        if narrowing:
            raise Refused(entry.lines[narrowing[0]], f"{narrowing[0]} of a single tag", "write * in the tag")
        return wish
    for key, make in (("regex", patterns.whole), ("semver", patterns.versions)):
        if key in entry.values:
            if choice.shown != "*":
                raise Refused(
                    entry.lines[key], f"{key} and a tag with * that is more than *", "leave one out"
                )
            stated = text(entry.values[key], key)
            allow = (compiled(entry.values[key].line, make, stated),)
            choice = choice._replace(shown=f"{key} {stated}", allow=allow)
    excluded = texts(entry.values["exclude"], "exclude") if "exclude" in entry.values else []
    deny = tuple(compiled(at, patterns.stars, one) for at, one in excluded)
    shown = choice.shown + "".join(f" !{one}" for _, one in excluded)
    return wish._replace(choice=TagChoice(shown, choice.allow, deny, _retention(entry)))


def _retention(entry: Mapping) -> Retention:
    values = entry.values
    last = number(values["keep-last"], "keep-last", MOST_KEPT) if "keep-last" in values else 0
    if "keep-last" in values and not last:
        raise Refused(entry.lines["keep-last"], "keep-last 0 keeps nothing", "write 1 or more")
    by = text(values["keep-by"], "keep-by") if "keep-by" in values else VERSION
    if by not in (VERSION, CREATED):
        raise Refused(values["keep-by"].line, f"keep-by {quoted(by)}", f"write {VERSION} or {CREATED}")
    seconds = 0
    if "newer-than" in values:
        stated = text(values["newer-than"], "newer-than")
        found = _AGE.fullmatch(stated)
        days = int(found[1]) * _DAYS[found[2]] if found else 0
        if not 0 < days <= MOST_DAYS:
            raise Refused(
                values["newer-than"].line, f"newer-than {quoted(stated)} is no age", "write 90d or 12w"
            )
        seconds = days * 86400
    return Retention(last, by, seconds)


def _extras(node: Mapping, base: Extras) -> Extras:
    values = node.values
    made = base
    if "platforms" in values:
        made = made._replace(platforms=platforms([values["platforms"]]))
    if "layout" in values:
        layout = text(values["layout"], "layout")
        if layout not in LAYOUTS:
            raise Refused(values["layout"].line, f"layout {quoted(layout)}", f"write {' or '.join(LAYOUTS)}")
        made = made._replace(layout=layout)
    if "owner" in values:
        owner = text(values["owner"], "owner")
        if not _OWNER.fullmatch(owner):
            raise Refused(values["owner"].line, f"owner {quoted(owner)}", "letters, digits and _ . @ + -")
        made = made._replace(owner=owner)
    if "bind-points" in values:
        made = made._replace(bind_points=_bind_points(values["bind-points"]))
    if "profile" in values:
        made = made._replace(profile=_command(values["profile"]))
    return made


def _command(node: Node) -> tuple[str, ...]:
    """Returns the words of a command. A text is split as a shell does it; the items of a list are the
    words."""
    if isinstance(node, Scalar):
        stated = text(node, "profile")
        try:
            words = shlex.split(stated)
        except ValueError as error:
            mend = "close its quotes, or write a list of words"
            raise Refused(node.line, f"profile {quoted(stated)}: {error}", mend) from None
    else:
        words = [word for _, word in texts(node, "profile")]
    if not words or not words[0]:
        raise Refused(node.line, "profile names no command", "write profile: COMMAND")
    if len(words) > MOST_WORDS or sum(map(len, words)) > MOST_COMMAND:
        raise Refused(node.line, f"profile: over {MOST_WORDS} words or {MOST_COMMAND} characters")
    return tuple(words)


def _bind_points(node: Node) -> tuple[str, ...]:
    found = []
    for line, path in texts(node, "bind-points"):
        try:
            found.append(bind_point(path))
        except ValueError as error:
            raise Refused(line, f"bind point {quoted(path)}: {error}", "write an absolute path") from None
    return tuple(sorted(set(found)))


def _exclusion(node: Scalar, findings: Findings) -> _Exclusion:
    stated = text(node, "an exclusion")[1:].strip()
    if ":" not in stated.rpartition("/")[2]:
        stated += ":*"
    wish = cern.wish_of(node.line, stated, findings)
    name = f"{wish.reference.registry}/{wish.reference.repository}"
    tag = wish.choice.shown if wish.choice else wish.reference.tag or wish.reference.digest or ""
    return _Exclusion(name, compiled(node.line, patterns.stars, tag), tag)


def _without(wish: Wish, exclusions: list[_Exclusion], findings: Findings) -> Wish | None:
    """Returns the wish without the excluded images; None if nothing is left of it."""
    name = f"{wish.reference.registry}/{wish.reference.repository}"
    ours = [one for one in exclusions if one.name == name]
    if not ours:
        return wish
    if wish.choice is None:
        if any(one.pattern(wish.reference.wanted) for one in ours):
            findings.notice(wish.line, f"{wish.shown} is excluded by another line of this list")
            return None
        return wish
    shown = wish.choice.shown + "".join(f" !{one.shown}" for one in ours)
    deny = (*wish.choice.deny, *(one.pattern for one in ours))
    return wish._replace(choice=wish.choice._replace(shown=shown, deny=deny))
