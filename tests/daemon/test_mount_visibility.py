"""Who may see into a mount: a user's private repository is shown to nobody else unasked."""

from typing import Any

import pytest

from lazyfs.daemon import mount_visibility
from lazyfs.daemon.settings import RepositorySource, Settings

PUBLIC, PRIVATE = "https://server/repo", "https://user:password@server/repo"


@pytest.mark.parametrize(
    ("permitted", "fields", "expected"),
    [
        (False, {"source": PUBLIC}, False),
        (True, {"source": PUBLIC}, True),
        (True, {"source": "/srv/store"}, True),
        (True, {"source": PRIVATE}, False),
        (True, {"source": PUBLIC, "client_cert": "/etc/node.pem"}, False),
        (True, {"source": PRIVATE, "permissions": "image"}, False),
        (True, {"source": PRIVATE, "permissions": "open"}, True),
        (False, {"source": PRIVATE, "permissions": "open"}, False),
        (True, {"repositories": {"a": RepositorySource(url=PUBLIC)}}, True),
        (
            True,
            {"repositories": {"a": RepositorySource(url=PUBLIC), "b": RepositorySource(url=PRIVATE)}},
            False,
        ),
    ],
)
def test_a_private_repository_is_shown_to_others_only_if_that_is_asked_for(
    *, permitted: bool, fields: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: it was shown to everybody where /etc/fuse.conf has user_allow_other, with no mode
    checked."""
    monkeypatch.setattr(mount_visibility, "user_allow_other", lambda: permitted)
    assert mount_visibility.is_for_everybody(Settings(mountpoint="/mnt/x", **fields)) is expected
