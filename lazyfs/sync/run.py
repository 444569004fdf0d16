"""`sync` from Python: one run of the service, with images read by any concurrent.futures.Executor.

from concurrent.futures import ProcessPoolExecutor
from lazyfs.sync.run import sync

with ProcessPoolExecutor(8) as executor:
    report = sync(["wishlist.yaml"], "/srv/unpacked", executor=executor)
"""

from collections.abc import Sequence
from concurrent.futures import Executor

from lazyfs.sync.report import Report, Tell
from lazyfs.sync.service import Workers
from lazyfs.sync.service_runs import ServiceRuns
from lazyfs.sync.settings import Settings, checked, read_settings


def sync(
    wishlists: Sequence[str],
    store: str,
    *,
    executor: Executor | None = None,
    keys: str | None = None,
    settings: Settings | None = None,
    configuration: str | None = None,
    status_directory: str | None = None,
    forget: Sequence[str] = (),
    accept_shorter: Sequence[str] = (),
    max_age: float = 0.0,
    max_delete: int | None = None,
    dry_run: bool = False,
    wait: float = 0.0,
    tell: Tell = lambda _line: None,
) -> Report:
    """Brings the repository at `store` in line with the wishlists, as `lazyfs sync` does.

    `executor`: reads the images. Its processes have to reach the store at the same location, and the files
    that the settings name. An executor of threads works, but only one thread computes at a time. `settings`:
    used in place of the file `configuration`. `max_age`, `wait`: seconds. `tell`: called with each line of
    progress, from several threads. The other arguments are the options of the command. Raises LazyfsError
    where the command would fail.
    """
    chosen = read_settings(configuration) if settings is None else checked(settings, "settings")
    return ServiceRuns(store, keys, chosen, status_directory, tell).sync(
        wishlists,
        forget=forget,
        accept_shorter=accept_shorter,
        max_age=max_age,
        max_delete=max_delete,
        dry_run=dry_run,
        wait=wait,
        workers=Workers(executor, store) if executor else None,
    )
