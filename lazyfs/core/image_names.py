"""Names of images, as people write them, and the paths of a tree that they may mean: one rule for all.

The first of these paths that exists is taken:

1. The name as a path of the tree, with `:latest` where it has neither tag nor digest; then as it is written.
2. The name of an image of Docker Hub: `debian` is docker.io/library/debian:latest, and this registry's four
   names are one.
3. The name below every other registry of the tree, with and without `library/`. Only here can a name mean two
   images.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.reference import DEFAULT_TAG, HUB_HOSTS, parse

LIBRARY = "library"
"""The folder in which Docker Hub keeps images whose name has one part."""
MOST_SIMILAR = 5
MOST_NAMES = 20_000
"""The largest number of names of one folder that are compared with a name that does not exist; more would
take seconds."""

Listing = Callable[[str], Sequence[str]]
"""A function that returns the names in the folder at a path of the tree; none if the path is no folder."""


def candidates(name: str, top: Iterable[str]) -> list[list[str]]:
    """Returns the paths that a name may mean, best first; those of one inner list are equally good.

    `top`: the names in the tree's top folder, among them its registries. A name with `.`, `..` or nothing
    between slashes means no path.
    """
    if any(part in ("", ".", "..") for part in name.split("/")):
        return []
    tagged = _tagged(name)
    ranks = [[tagged], [name]]
    first, slash, rest = tagged.partition("/")
    if slash and first in HUB_HOSTS:
        ranks += [[path] for path in _on_hub(rest)]
    elif not (slash and ("." in first or ":" in first or first == "localhost")):  # it names no registry
        ranks += [[path] for path in _on_hub(tagged)]
        below = [tagged] if slash else [tagged, f"{LIBRARY}/{tagged}"]
        others = sorted(one for one in top if one not in HUB_HOSTS and not one.startswith("."))
        ranks.append([f"{registry}/{path}" for registry in others for path in below])
    return _without_repeats(ranks)


def full_name(name: str) -> str:
    """Returns the path at which an image of this name would be published: the registry, the registry's
    repository and the tag. Returns the name itself if it cannot be an image's."""
    try:
        return parse(name).path
    except UsageError:
        return name


def similar(name: str, listing: Listing) -> list[str]:
    """Returns paths of the tree with names like `name`, for a message that suggests them: first those of the
    same registry's repository with other tags. Calls `listing` only for the folders that such paths lead
    through."""
    found: dict[str, None] = {}
    for rank in candidates(name, listing("")):
        for path in rank:
            found.update(dict.fromkeys(_near(path, listing)))
    return list(found)[:MOST_SIMILAR]


def _near(path: str, listing: Listing) -> list[str]:
    parts = path.split("/")
    folders = [""]
    for number, part in enumerate(parts):
        reached = []
        for folder in folders:
            names = [name for name in islice(listing(folder), MOST_NAMES) if not name.startswith(".")]
            if part in names:
                reached.append(_below(folder, part))
            else:
                reached += [_below(folder, name) for name in _matches(part, names)]
        folders = reached[:MOST_SIMILAR]
        if number < len(parts) - 1:
            folders = [folder for folder in folders if ":" not in folder.rpartition("/")[2]]
    return [found for found in folders if ":" in found.rpartition("/")[2]]


def _matches(part: str, names: list[str]) -> list[str]:
    """Returns those of `names` that differ from `part` at most in their tag; if there are none, those whose
    text before the tag is similar. Names with the tag of `part` come first. `part`, `names`: last components
    of image references."""
    wanted, _, tag = part.partition(":")
    repositories: dict[str, list[str]] = {}
    for name in names:
        repositories.setdefault(name.partition(":")[0], []).append(name)
    import difflib  # only a name that is not there needs it

    near = [wanted] if wanted in repositories else difflib.get_close_matches(wanted, repositories)
    found = [name for repository in near for name in repositories[repository]]
    return sorted(found, key=lambda name: name.partition(":")[2] != tag)[:MOST_SIMILAR]


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _tagged(name: str) -> str:
    """Returns the name with a tag: its own, or `latest` if it has none. The digest of a name that has one
    takes the place of the tag, as in `debian:sha256:...`."""
    folder, slash, last = name.rpartition("/")
    if "@" in last:
        repository, _, digest = last.partition("@")
        last = f"{repository.partition(':')[0]}:{digest}"
    elif ":" not in last:
        last = f"{last}:{DEFAULT_TAG}"
    return f"{folder}{slash}{last}"


def _on_hub(path: str) -> list[str]:
    """Returns the places of an image of Docker Hub: under the registry's own name first, then under its other
    names, which earlier publishers in the field have used."""
    whole = path if "/" in path else f"{LIBRARY}/{path}"
    return [f"{host}/{whole}" for host in HUB_HOSTS]


def _without_repeats(ranks: list[list[str]]) -> list[list[str]]:
    known: set[str] = set()
    kept = []
    for rank in ranks:
        new = [path for path in dict.fromkeys(rank) if path not in known]
        known.update(new)
        if new:
            kept.append(new)
    return kept
