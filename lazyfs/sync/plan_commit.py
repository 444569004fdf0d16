"""`lazyfs commit`: makes one revision of the images that the shards of a plan have converted."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.repository.keys import Keys
from lazyfs.repository.leases import PublisherLease
from lazyfs.store import Store
from lazyfs.sync.committer import Committer
from lazyfs.sync.plan import Plan
from lazyfs.sync.shards import LeftFiles
from lazyfs.sync.targets import all_paths


class CommitReport(NamedTuple):
    """The outcome of a commit."""

    revision: int
    changed: bool
    committed: list[str]
    """Places of the images that the revision has."""
    missing: dict[str, str]
    """The images that the revision lacks: place -> reason."""


def commit_plan(
    store: Store,
    keys: Keys,
    plan: Plan,
    now: Callable[[], datetime],
    *,
    finish: bool = False,
    last_update: bool = True,
) -> CommitReport:
    """Commits the images that are converted. The plan then ends if no image that it names is missing, or if
    `finish` is set: the files that its shards have left in the store are deleted, and its lease is given up.
    `last_update`: True to write logDir/lastUpdate with the revision.

    Raises LeaseLost if the plan's lease has expired, UsageError for another repository's plan, and as
    Edit.commit.
    """
    lease = PublisherLease(store, now, length=plan.lease_seconds, token=plan.lease)
    files = LeftFiles(store, plan)
    committed: list[str] = []
    missing: dict[str, str] = dict(plan.failed)
    paths: list[str] = []
    with Committer(store, keys, now, last_update=last_update) as committer:
        if committer.base.name != plan.repository:
            raise UsageError(f"the plan is for {plan.repository}, the store holds {committer.base.name}")
        moved = False
        for number, image in enumerate(plan.images):
            lease.keep_alive()
            target, digest = image.job.target(), image.job.digest
            found = files.image(number)
            if found is None:
                missing[target.place] = files.failure(number) or "no shard has converted it"
                continue
            prepared = found.prepared()
            before = committer.published.target(target.place)
            try:
                committer.put({**prepared.shared, **prepared.of(target, digest)})
            except LazyfsError as error:
                missing[target.place] = str(error)
                continue
            moved |= before is not None and before != prepared.config
            committed.append(target.place)
            paths += all_paths(target, digest)
        if moved:
            committer.tidy()
        changed = committer.commit(paths)
        revision = committer.base.number
    if finish or not set(missing) - set(plan.failed):
        files.forget(files.names())
        lease.end_if_possible()
    return CommitReport(revision, changed, committed, missing)
