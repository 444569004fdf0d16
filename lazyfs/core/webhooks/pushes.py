"""The pushes that the bodies of webhooks report: the registry's repositories and the tags, nothing else.

The operator states for each sender which registry it speaks for. A service then asks that registry which
image a pushed tag names.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.oci.reference import parse
from lazyfs.core.webhooks.proofs import DOCKER, GITHUB, GITLAB, HARBOR

MOST_BODY = 1 << 20
"""The largest number of bytes of a body: a registry sends an event of 1 kB for each manifest, a few at a
time."""
MOST_PUSHES = 1000
"""The largest number of pushes that one body may report."""


class Push(NamedTuple):
    """One push into a registry's repository, or into any repository of a project."""

    registry: str
    repository: str
    tag: str = ""
    """The pushed tag; empty if it may be any tag of the repository."""
    below: bool = False
    """True if the push may be into `repository` or into any repository below it."""


class PushedImages:
    """Pushes, ordered by the registry's repository that they went into."""

    def __init__(self, pushes: Iterable[Push]) -> None:
        self._by_name: dict[tuple[str, str], list[Push]] = {}
        for push in pushes:
            self._by_name.setdefault((push.registry, push.repository), []).append(push)

    def into(self, registry: str, repository: str) -> list[Push]:
        """Returns the pushes into a repository, and those into the projects above it."""
        found = list(self._by_name.get((registry, repository), ()))
        above = repository
        while "/" in above:
            above = above.rpartition("/")[0]
            found += [push for push in self._by_name.get((registry, above), ()) if push.below]
        return found

    def has(self, registry: str, repository: str, tag: str | None) -> bool:
        """Returns True if this tag was pushed, or may have been: some pushes state no tag."""
        return any(push.tag in ("", tag) for push in self.into(registry, repository))


class _Target(msgspec.Struct, frozen=True):
    repository: str = ""
    tag: str = ""


class _Event(msgspec.Struct, frozen=True):
    action: str = ""
    target: _Target = _Target()


class _DockerBody(msgspec.Struct, frozen=True):
    events: list[_Event]


class _Resource(msgspec.Struct, frozen=True):
    tag: str = ""


class _Repository(msgspec.Struct, frozen=True):
    repo_full_name: str = ""
    name: str = ""
    namespace: str = ""


class _HarborData(msgspec.Struct, frozen=True):
    resources: list[_Resource] = []
    repository: _Repository = _Repository()


class _HarborBody(msgspec.Struct, frozen=True):
    type: str
    event_data: _HarborData | None = None
    data: _HarborData | None = None
    """Replaces event_data if Harbor is set to send CloudEvents."""


class _Project(msgspec.Struct, frozen=True):
    path_with_namespace: str = ""


class _Status(msgspec.Struct, frozen=True):
    status: str = ""


class _GitLabBody(msgspec.Struct, frozen=True):
    events: list[_Event] | None = None
    object_kind: str = ""
    object_attributes: _Status = _Status()
    project: _Project = _Project()


class _Tag(msgspec.Struct, frozen=True):
    name: str = ""


class _Container(msgspec.Struct, frozen=True):
    tag: _Tag | None = None


class _Version(msgspec.Struct, frozen=True):
    container_metadata: _Container | None = None


class _Package(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    package_type: str = ""
    ecosystem: str = ""
    package_version: _Version | None = None


class _GitHubBody(msgspec.Struct, frozen=True):
    action: str = ""
    registry_package: _Package | None = None
    package: _Package | None = None


def pushes_of(kind: str, registry: str, body: bytes) -> list[Push]:
    """Returns the pushes that a body reports, each once; an empty list if it reports something else.

    `registry`: the sender's registry. Raises FormatError for a body that is not of this kind, or that reports
    more than MOST_PUSHES.
    """
    try:
        named = list(_READERS[kind](body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"no webhook of {kind}: {error}") from None
    if len(named) > MOST_PUSHES:
        raise FormatError(f"a webhook of {len(named)} pushes, over {MOST_PUSHES}")
    return list(dict.fromkeys(_known(registry, named)))


def _known(registry: str, named: Iterable[Push]) -> Iterator[Push]:
    """Yields the pushes whose names are valid in an image reference. No wishlist can ask for other names."""
    for push in named:
        try:
            found = parse(f"{registry}/{push.repository}:{push.tag or 'any'}")
        except UsageError:
            continue
        yield push._replace(registry=found.registry, repository=found.repository)


_docker_decoder = msgspec.json.Decoder(_DockerBody)
_harbor_decoder = msgspec.json.Decoder(_HarborBody)
_gitlab_decoder = msgspec.json.Decoder(_GitLabBody)
_github_decoder = msgspec.json.Decoder(_GitHubBody)


def _docker(body: bytes) -> Iterator[Push]:
    return _tagged(_docker_decoder.decode(body).events)


def _tagged(events: Iterable[_Event]) -> Iterator[Push]:
    for event in events:
        if event.action == "push" and event.target.repository and event.target.tag:
            yield Push("", event.target.repository, event.target.tag)


def _harbor(body: bytes) -> Iterator[Push]:
    found = _harbor_decoder.decode(body)
    data = found.event_data or found.data
    if found.type not in ("PUSH_ARTIFACT", "harbor.artifact.pushed") or data is None:
        return
    where = data.repository
    name = where.repo_full_name or f"{where.namespace}/{where.name}"
    for resource in data.resources:
        if resource.tag:
            yield Push("", name, resource.tag)


def _gitlab(body: bytes) -> Iterator[Push]:
    """Yields the pushes that a GitLab webhook reports. GitLab's registry reports pushes as Docker's does. A
    pipeline that has succeeded counts as a push to any repository of its project, as it may have pushed."""
    found = _gitlab_decoder.decode(body)
    yield from _tagged(found.events or ())
    if found.object_kind == "pipeline" and found.object_attributes.status == "success":
        yield Push("", found.project.path_with_namespace.lower(), below=True)


def _github(body: bytes) -> Iterator[Push]:
    found = _github_decoder.decode(body)
    package = found.registry_package or found.package
    if found.action not in ("published", "updated") or package is None:
        return
    if "CONTAINER" not in (package.package_type.upper(), package.ecosystem.upper()):
        return
    container = package.package_version.container_metadata if package.package_version else None
    tag = container.tag.name if container and container.tag else ""
    yield Push("", f"{package.namespace}/{package.name}".lower(), tag)


_READERS = {DOCKER: _docker, HARBOR: _harbor, GITLAB: _gitlab, GITHUB: _github}
