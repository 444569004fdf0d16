"""Finds out what wishes mean now: the tags that match a pattern, and the digests that tags name. Only asks
registries."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from lazyfs.core.errors import Unknown
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.reference import Reference
from lazyfs.core.registry.steps import Privacy
from lazyfs.core.wishlist.retention import kept
from lazyfs.core.wishlist.wish import Wish
from lazyfs.images.sources.image import none_known
from lazyfs.images.sources.registry_image import RegistryImage
from lazyfs.sync.failures import Failure, failure_of
from lazyfs.sync.lists import GivenList
from lazyfs.sync.registries import Registries
from lazyfs.sync.targets import Resolved

LOOK = 5.0
"""Seconds without an answer after which `Resolver.digests` calls its argument `meanwhile`, so that work that
must not wait is done."""
MOST_CHOSEN = 10_000
"""The largest number of images that one wish may mean. A run can check this many in seconds, and a registry
may invent more."""
THREADS = 32
"""The largest number of threads with which a Resolver asks registries, for all registries together. The
settings of each registry limit the requests to it at a time."""


class Gone(NamedTuple):
    """A registry's answer that it does not have the tag."""

    reason: str


class FailedWish(NamedTuple):
    """A wish whose tags could not be listed."""

    list: str
    wish: Wish
    failure: Failure
    holds: bool = True
    """False if the registry said that it has no such repository: then the wish's images may leave."""


class _Chosen(NamedTuple):
    """The images that a wish means now."""

    references: list[Reference]
    undated: Failure | None = None
    """The reason why the date of a tag is unknown, if the wish chooses tags by date; None if all needed dates
    are known. With a reason, `references` may lack images that the wish means."""


class Resolution(NamedTuple):
    """All wishes of a run, resolved as far as the registries have answered."""

    resolved: list[Resolved]
    failed: list[FailedWish]
    """The failed wishes. A wish for which only a tag's date is unknown is in `resolved` too: the images that
    it chooses are published, but no image leaves because it was not chosen."""
    listed: dict[tuple[str, str], frozenset[str]]
    """The tags in a registry's repository, by (registry, repository). Only lists of tags that were asked for
    and are complete are here."""
    dates: dict[str, int]
    """The times at which images were made, by the digests of their manifests; times known from earlier runs
    are included."""


@dataclass
class Resolver:
    """Asks registries which images the wishes mean. Use one for each run."""

    registries: Registries
    platform: Platform
    dates: dict[str, int]
    now: Callable[[], float]

    def __post_init__(self) -> None:
        self._digests: dict[Reference, str] = {}
        self._dated: set[str] = set()
        """Digests of the images whose dates were needed in this run."""
        self._lock = threading.Lock()

    def resolve(self, lists: Sequence[GivenList]) -> Resolution:
        """Finds the images that each wish means. Raises no error of a wish: a failed wish is in the result.
        Dates that no wish has needed are dropped."""
        wishes = [(given.name, wish) for given in lists for wish in given.lists.wishes]
        repositories = list(dict.fromkeys(_repository(wish) for _, wish in wishes if wish.choice))
        listed: dict[Reference, list[str] | Failure | Gone] = {}
        with self._threads("tags") as pool:
            listed.update(zip(repositories, pool.map(self._tags, repositories), strict=True))
            chosen = list(pool.map(lambda item: self._chosen(item[1], listed), wishes))
        for digest in self.dates.keys() - self._dated:
            del self.dates[digest]
        resolved, failed = [], []
        for (name, wish), found in zip(wishes, chosen, strict=True):
            if isinstance(found, Failure):
                failed.append(FailedWish(name, wish, found))
            elif isinstance(found, Gone):
                failed.append(FailedWish(name, wish, Failure(found.reason, transient=False), holds=False))
            else:
                resolved.append(Resolved(name, wish, found.references))
                if found.undated:
                    failed.append(FailedWish(name, wish, found.undated))
        whole = {
            (one.registry, one.repository): frozenset([] if isinstance(tags, Gone) else tags)
            for one, tags in listed.items()
            if not isinstance(tags, Failure)
        }
        return Resolution(resolved, failed, whole, self.dates)

    def digest(self, reference: Reference) -> str | Gone | Failure:
        """Returns the digest that a tag names now; asks the registry once in a run."""
        if reference.digest:
            return reference.digest
        with self._lock:
            known = self._digests.get(reference)
        if known:
            return known
        try:
            found = self.registries.client(reference).digest(reference.wanted)
        except Unknown as error:
            return Gone(str(error))
        except Exception as error:  # noqa: BLE001 - fails alone
            return failure_of(error)
        with self._lock:
            self._digests[reference] = found
        return found

    def told_account(self, reference: Reference) -> bool:
        """Returns True if the registry has answered a request that was made with the service's account."""
        return self.registries.client(reference).account_answered

    def needed_account(self, reference: Reference) -> bool:
        """Returns True if this run has learned that the image can be read only with an account."""
        return self.registries.client(reference).privacy is Privacy.PRIVATE

    def digests(
        self, references: Iterable[Reference], meanwhile: Callable[[], None]
    ) -> list[str | Gone | Failure]:
        """Returns the digest that each tag names now, in the order of `references`; asks for several at a
        time. `meanwhile`: called after each answer, and every few seconds without one."""
        with self._threads("head") as pool:
            answers = [pool.submit(self.digest, reference) for reference in references]
            left = set(answers)
            while left:
                left = wait(left, LOOK, FIRST_COMPLETED).not_done
                meanwhile()
            return [answer.result() for answer in answers]

    @contextmanager
    def _threads(self, name: str) -> Iterator[ThreadPoolExecutor]:
        """Yields an executor whose threads ask registries. If an exception such as an interrupt leaves the
        block, ends all waits between requests to registries, and drops the questions that were not asked yet.
        `name`: the beginning of the threads' names."""
        with ThreadPoolExecutor(THREADS, name) as pool:
            try:
                yield pool
            except BaseException:
                self.registries.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _tags(self, repository: Reference) -> "list[str] | Failure | Gone":
        try:
            return self.registries.client(repository).tags()
        except Unknown as error:
            return Gone(str(error))
        except Exception as error:  # noqa: BLE001 - fails alone
            return failure_of(error)

    def _chosen(
        self, wish: Wish, listed: "dict[Reference, list[str] | Failure | Gone]"
    ) -> _Chosen | Failure | Gone:
        try:
            return self._choice(wish, listed)
        except Exception as error:  # noqa: BLE001 - fails alone
            return failure_of(error)

    def _choice(
        self, wish: Wish, listed: "dict[Reference, list[str] | Failure | Gone]"
    ) -> _Chosen | Failure | Gone:
        if wish.choice is None:
            return _Chosen([wish.reference])
        tags = listed[_repository(wish)]
        if isinstance(tags, Failure | Gone):
            return tags
        references = [wish.reference._replace(tag=tag) for tag in wish.choice.of(tags)]
        retention = wish.choice.retention
        created: dict[str, int] = {}
        undated = None
        if retention.needs_dates:
            if len(references) > MOST_CHOSEN:
                return _too_many(wish, len(references))
            for reference in references:
                when = self._created(reference)
                if isinstance(when, Failure):
                    return when
                if isinstance(when, int):
                    created[reference.wanted] = when
                elif when is not None:
                    undated = Failure(when.reason, transient=False)
        left = kept([one.wanted for one in references], retention, created, self.now())
        if len(left) > MOST_CHOSEN:
            return _too_many(wish, len(left))
        return _Chosen([wish.reference._replace(tag=tag) for tag in left], undated)

    def _created(self, reference: Reference) -> int | Failure | Gone | None:
        """Returns the time at which a tag's image was made; None if the registry says that the tag is gone;
        Gone if it says that the tag's digest is gone; otherwise a Failure. A 404 that does not have a
        registry's form is a Failure too, because it may come from a proxy."""
        digest = self.digest(reference)
        if isinstance(digest, Gone):
            return None
        if isinstance(digest, Failure):
            return digest
        with self._lock:
            self._dated.add(digest)
            known = self.dates.get(digest)
        if known is None:
            try:
                client = self.registries.client(reference)
                by_digest = reference._replace(digest=digest)
                image = RegistryImage(client, by_digest, self.platform, none_known, asked=False)
            except Unknown as error:
                return Gone(str(error))
            except Exception as error:  # noqa: BLE001 - fails alone
                return failure_of(error)
            known = image.config.created_ns // 1_000_000_000
            with self._lock:
                self.dates[digest] = known
        return known


def _too_many(wish: Wish, count: int) -> Failure:
    reason = f"{wish.shown} chooses {count} tags, over {MOST_CHOSEN}: narrow its pattern"
    return Failure(reason, transient=False)


def _repository(wish: Wish) -> Reference:
    return wish.reference._replace(tag=None, digest=None)
