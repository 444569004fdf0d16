"""Imports modules that would otherwise be imported at their first use, days later perhaps.

If a package was replaced by a newer one meanwhile, modules of both would be mixed; and a daemon that has
given up root may no longer be able to read its interpreter's files.
"""

import importlib
from collections.abc import Iterable
from contextlib import suppress

SOON = (
    "_strptime",
    "concurrent.futures",
    "concurrent.futures.thread",
    "encodings.idna",
    "lazyfs.core.collected_profiles",
    "lazyfs.core.trust.delegation",
    "lazyfs.prefetch.whole_image",
    "lazyfs.transport.lower_store",
    "lmdb._envid",
    "shutil",
    "subprocess",
    "tempfile",
    "tuf.api.serialization.json",
    "urllib.parse",
)
"""The modules of every mount. They are imported once a program that starts has had time
(`answering_mount.ALONE`)."""

OF_A_CHOSEN_REVISION = ("lazyfs.client.trust.chosen_revision", "lazyfs.core.history.choice")
"""The modules of a repository that is shown as it was at a date or a named revision."""

BEFORE_ROOT_IS_GIVEN_UP = (
    *SOON,
    "encodings.ascii",
    "lazyfs.daemon.catalog_pins",
    "lazyfs.daemon.metrics",
    "lazyfs.daemon.opened_cache",
    "lazyfs.daemon.reporting.sender",
    "lazyfs.daemon.served_mount",
    "lazyfs.fuse.direct.session",
    "lazyfs.fuse.pyfuse3_session",
    "lazyfs.fuse.trace",
    "lazyfs.transport.curl_client",
    "lazyfs.transport.requests_client",
    "lazyfs.transport.tls",
    "prometheus_client",
)
"""The modules that may be needed by a daemon that serves as another user than root."""


def load(modules: Iterable[str]) -> None:
    """Imports the modules, and passes over those that are not installed."""
    for module in modules:
        with suppress(ModuleNotFoundError):
            importlib.import_module(module)
