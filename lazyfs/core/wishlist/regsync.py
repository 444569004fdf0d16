"""The list of regsync: `sync`, each entry with `source`, `target`, `type`, `tags` and `platforms`.

`tags.allow` and `tags.deny` are regular expressions bound to both ends of the tag; without `allow`, all tags
are meant. The target and the settings of regsync's own work have no effect.
"""

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.platform import parse_platform
from lazyfs.core.oci.reference import HUB, parse
from lazyfs.core.wishlist import patterns
from lazyfs.core.wishlist.fields import items, know, mapping, text, texts
from lazyfs.core.wishlist.findings import Findings, Refused, quoted
from lazyfs.core.wishlist.wish import Extras, TagChoice, Wish, compiled, reference_of
from lazyfs.core.wishlist.yaml_tree import Mapping, Node

KEYS = ("sync", "defaults", "version")
IDLE = ("creds",)
ENTRY_KEYS = ("source", "target", "type", "tags", "platform", "platforms")
ENTRY_IDLE = (
    "backup", "digestTags", "fastCheck", "forceRecursive", "hooks", "includeExternal", "interval",
    "mediaTypes", "parallel", "ratelimit", "referrerFilters", "referrers", "referrerSource",
    "referrerTarget", "schedule",
)  # fmt: skip


def read(document: Mapping, findings: Findings) -> list[Wish]:
    """Returns the wishes of the list. Parts that cannot be read become findings."""
    know(document, KEYS, IDLE, findings)
    for key in ("target", "defaults"):
        line = document.lines.get(key)
        if line is not None:
            findings.once(key, line, f"{key} has no effect here")
    wishes: list[Wish] = []
    try:
        entries = items(document.values["sync"], "sync") if "sync" in document.values else []
    except Refused as refused:
        findings.add(refused.finding)
        return wishes
    for node in entries:
        try:
            entry = mapping(node, "an entry of sync")
            if not entry.repeated:
                know(entry, ENTRY_KEYS, ENTRY_IDLE, findings)
                wishes.append(_wish(entry))
        except Refused as refused:
            findings.add(refused.finding)
    return wishes


def _wish(entry: Mapping) -> Wish:
    if "source" not in entry.values:
        raise Refused(entry.line, "an entry of sync without source", "write source: REGISTRY/REPOSITORY")
    line = entry.values["source"].line
    source = text(entry.values["source"], "source")
    if "{{" in source:
        raise Refused(line, f"{quoted(source)}: templates are not expanded", "write the image out")
    kind = text(entry.values["type"], "type") if "type" in entry.values else "image"
    extras = Extras(platforms=_platforms(entry))
    if kind == "image":
        if "tags" in entry.values:
            raise Refused(entry.lines["tags"], "tags of a single image", "write type: repository")
        try:
            return Wish(line, parse(source), None, extras)
        except UsageError as error:
            raise Refused(line, str(error), "write REGISTRY/REPOSITORY:TAG") from None
    if kind == "repository":
        registry, repository = _repository(line, source)
        return Wish(line, reference_of(line, registry, repository), _choice(entry), extras)
    if kind == "registry":
        raise Refused(line, "type registry: which repositories there are is not asked", "name each of them")
    raise Refused(entry.values["type"].line, f"type {quoted(kind)}", "write image or repository")


def _repository(line: int, source: str) -> tuple[str, str]:
    """Returns the registry and the registry's repository that a source without a tag names. The first part of
    the source is a registry by the rule of `oci.reference.parse`."""
    first, slash, rest = source.partition("/")
    if not slash:
        return HUB, f"library/{source}"
    if "." in first or ":" in first or first == "localhost":
        registry, repository = first, rest
    else:
        registry, repository = HUB, source
    if ":" in repository or "@" in repository:
        raise Refused(line, f"{quoted(source)}: a repository with a tag", "leave out the tag, or type")
    return registry, repository


def _choice(entry: Mapping) -> TagChoice:
    if "tags" not in entry.values:
        return TagChoice("*")
    node = mapping(entry.values["tags"], "tags")
    if node.repeated:
        raise Refused(node.line, "tags with a key twice: the entry is left out")
    for key, line in node.lines.items():
        if key not in ("allow", "deny", "semverRange"):
            raise Refused(line, f"{quoted(key)} is no key of tags", "there are allow, deny, semverRange")
    lists = {key: texts(node.values[key], key) for key in ("allow", "deny") if key in node.values}
    allow = [compiled(line, patterns.whole, one) for line, one in lists.get("allow", [])]
    deny = [compiled(line, patterns.whole, one) for line, one in lists.get("deny", [])]
    shown = [f"{key} {one}" for key, found in lists.items() for _, one in found]
    if "semverRange" in node.values:
        for line, one in texts(node.values["semverRange"], "semverRange"):
            allow.append(compiled(line, patterns.versions, one))
            shown.append(f"semver {one}")
    return TagChoice(" ".join(shown) or "*", tuple(allow), tuple(deny))


def _platforms(entry: Mapping) -> tuple[Platform, ...]:
    nodes: list[Node] = [entry.values[key] for key in ("platform", "platforms") if key in entry.values]
    return platforms(nodes)


def platforms(nodes: list[Node]) -> tuple[Platform, ...]:
    """Returns the platforms that these values name. Raises Refused."""
    found: dict[Platform, None] = {}
    for node in nodes:
        for line, name in texts(node, "platforms"):
            try:
                found[parse_platform(name)] = None
            except UsageError as error:
                raise Refused(line, str(error), "write linux/amd64") from None
    return tuple(found)
