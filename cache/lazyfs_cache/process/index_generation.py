"""One generation of the index in one process."""

from lazyfs_cache.files.journal import Journal
from lazyfs_cache.index.database import Index
from lazyfs_cache.policy.allowance import SpaceAllowance
from lazyfs_cache.policy.limits import Limits
from lazyfs_cache.process.arrivals import Arrivals
from lazyfs_cache.process.evictor import Evictor
from lazyfs_cache.process.pending_allowance import PendingAllowance
from lazyfs_cache.process.spare_files import SpareFiles


class IndexGeneration:
    """This process's objects for one generation, all made when it joins the index (`CurrentIndex`). When
    another generation takes its place, the allowance and the arrivals of this one become void."""

    def __init__(
        self,
        number: int,
        index: Index,
        owner: int,
        journal: Journal,
        limits: Limits,
        evictor: Evictor,
        allowance: SpaceAllowance,
        spares: SpareFiles,
        arrivals: Arrivals,
        pending: PendingAllowance,
    ) -> None:
        """`owner`: this process's owner number in the generation."""
        self.number = number
        self.index = index
        self.owner = owner
        self.journal = journal
        self.limits = limits
        self.evictor = evictor
        self.allowance = allowance
        self.spares = spares
        self.arrivals = arrivals
        self.pending = pending
