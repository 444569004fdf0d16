"""`sync` from Python: one run of the service, with images read by any concurrent.futures.Executor.

from concurrent.futures import ProcessPoolExecutor
from lazyfs.sync.run import sync

with ProcessPoolExecutor(8) as executor:
    report = sync(["wishlist.yaml"], "/srv/unpacked", executor=executor)
"""

import os
import platform as host
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime

from lazyfs.core.oci.platform import parse_platform
from lazyfs.repository.commit import read_revision
from lazyfs.repository.keys import default_directory, load
from lazyfs.store import open_store
from lazyfs.sync.event_file import append_events
from lazyfs.sync.lists import ListKeeper, expand
from lazyfs.sync.lists import load as load_list
from lazyfs.sync.registries import Registries
from lazyfs.sync.report import Report
from lazyfs.sync.service import Service, Workers
from lazyfs.sync.settings import Settings, read_settings
from lazyfs.sync.state import held, read_state, write_state
from lazyfs.sync.status_directory import default_status_directory


def sync(
    wishlists: Sequence[str],
    store: str,
    *,
    executor: Executor | None = None,
    keys: str | None = None,
    settings: Settings | None = None,
    configuration: str | None = None,
    status_directory: str | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> Report:
    """Makes the repository at `store` what the wishlists ask for, as `lazyfs sync` does.

    `executor`: reads the images. Its processes have to reach the store at the same location, and the files
    that the settings name. An executor of threads works, but only one thread computes at a time. `settings`:
    used in place of the file `configuration`. `tell`: called with each line of progress. Raises LazyfsError
    as the command.
    """
    chosen = settings or read_settings(configuration)
    opened = open_store(store)
    name = read_revision(opened).name
    signers = load(keys or default_directory(name))
    status = status_directory or default_status_directory(name)
    with held(status), Registries(chosen.registries) as registries:
        state = read_state(status, name)
        keeper = ListKeeper(os.path.join(status, "lists"))
        given = [load_list(one, keeper) for one in expand(list(wishlists))]
        for one in given:
            keeper.take(one)
        platforms = chosen.service.chosen_platforms
        service = Service(
            opened,
            signers,
            registries,
            chosen.service,
            platforms[0] if platforms else parse_platform(host.machine()),
            lambda: datetime.now(UTC),
            save=lambda now: write_state(status, now),
            tell=tell,
            platform_asked=bool(platforms),
            max_delete=chosen.service.max_delete,
            workers=Workers(executor, store) if executor else None,
        )
        report = service.run(given, state)
        append_events(status, report.events)
    return report
