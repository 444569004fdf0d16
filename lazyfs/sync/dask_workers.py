"""The workers of a Dask cluster, which HEP sites run over HTCondor, Slurm or Kubernetes."""

from collections.abc import Iterator
from contextlib import contextmanager

from lazyfs.core.errors import UsageError
from lazyfs.sync.service import Workers

CONNECT_SECONDS = 10
"""Timeout in seconds for the connection to the scheduler."""


@contextmanager
def dask_workers(address: str | None, store: str) -> Iterator[Workers | None]:
    """Connects to the scheduler at `address` for the block and yields its workers; yields None without an
    address. `store`: the store's location, which must be the same for all workers.

    Raises UsageError if Dask is not installed or the scheduler does not answer.
    """
    if address is None:
        yield None
        return
    try:
        from distributed import Client  # takes 0.7 s
    except ModuleNotFoundError:
        raise UsageError(
            "--dask: the Python package distributed is missing: pip install 'lazyfs[dask]'"
        ) from None
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"--dask {address}: no scheduler answers there ({type(error).__name__})") from None
    with client:
        yield Workers(client.get_executor(), store)
