"""`lazyfs profile record`: runs a program and publishes the profile of its start, in one step."""

import json
import os
from pathlib import Path

import pytest

from lazyfs.core.digest import sha256
from lazyfs.core.errors import UsageError
from lazyfs.core.profile import Origin
from lazyfs.images.profiles.published import published_profile
from tests.support.catalog_listing import open_tree
from tests.support.cli import lazyfs, new_repository
from tests.support.oci_images import Built, entry, layer

pytestmark = pytest.mark.root
READ, OWN, UNREAD = (os.urandom(1 << 18).hex().encode() for _ in range(3))
TOOLS = ("sh", "cat", "sleep")
PLACE = "r.example/team/app:1"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a store with an image whose own command reads a file. The working directory is the store's
    parent."""
    store, keys = new_repository(tmp_path)
    files = layer(
        entry("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755),
        *(entry(f"bin/{tool}", b"2", linkname="busybox") for tool in TOOLS),
        *(entry(name, data=data) for name, data in (("read", READ), ("own", OWN), ("unread", UNREAD))),
    )
    config = {"Cmd": ["/bin/cat", "/own"]}
    layout = Built([files], config=config).write_layout(tmp_path / "layout")
    lazyfs("publish", f"oci:{layout}", store, "--as", PLACE, "--keys", keys)
    monkeypatch.chdir(tmp_path)
    return store


def test_a_start_becomes_a_profile_in_one_step(store: Path, tmp_path: Path) -> None:
    """The store and a bind are given as relative paths; the program's output goes to standard error."""
    (tmp_path / "data").write_text("from the host\n")
    said = lazyfs(
        "profile", "record", PLACE, "store", "--keys", "keys", "-B", "data:/mnt/data", "--json",
        "--", "sh", "-c", "cat /mnt/data; cat /read > /dev/null",
    )  # fmt: skip
    assert json.loads(said.stdout)["changed"] is True
    assert "from the host" in said.stderr
    found = published_profile(open_tree(store), PLACE)
    members = {ref.digest for ref in found.profile.contents()}
    assert found.profile.origin is Origin.RECORDED
    assert sha256(READ) in members
    assert members.isdisjoint({sha256(OWN), sha256(UNREAD)})


def test_without_a_command_the_images_own_is_started(store: Path) -> None:
    lazyfs("profile", "record", PLACE, store, "--keys", "keys")
    members = {ref.digest for ref in published_profile(open_tree(store), PLACE).profile.contents()}
    assert sha256(OWN) in members
    assert sha256(READ) not in members


def test_a_program_that_goes_on_is_ended_and_what_it_has_read_counts(store: Path) -> None:
    command = ("sh", "-c", "cat /read > /dev/null; sleep 100072")
    lazyfs("profile", "record", PLACE, store, "--keys", "keys", "--seconds", "2", "--", *command)
    found = published_profile(open_tree(store), PLACE)
    assert sha256(READ) in {ref.digest for ref in found.profile.contents()}


def test_a_program_that_fails_leaves_the_image_without(store: Path) -> None:
    failed = lazyfs(
        "profile", "record", PLACE, store, "--keys", "keys", "--", "sh", "-c", "exit 3", check=False
    )
    assert failed.returncode == 1
    assert "its command ended with exit code 3" in failed.stderr
    with pytest.raises(UsageError, match="has no profile"):
        published_profile(open_tree(store), PLACE)
