"""`lazyfs repo`: a repository's keys and its signed revision."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from securesystemslib.signer import CryptoSigner

from lazyfs.cli.repo_names import keep, release
from lazyfs.cli.say import say
from lazyfs.cli.store_options import keys_option
from lazyfs.core.chunks import MAX_SHIFT, MIN_SHIFT
from lazyfs.core.digest import sha256
from lazyfs.core.errors import UsageError
from lazyfs.core.params import Params
from lazyfs.core.trust.roles import PROFILES, ROOT, TARGETS, TIMESTAMP
from lazyfs.core.trust.signed import when
from lazyfs.images.conversion import convert
from lazyfs.repository import delegation, format_upgrade, lifecycle
from lazyfs.repository import keys as key_files
from lazyfs.repository.commit import TIMESTAMP_DAYS, read_committed
from lazyfs.repository.opened_repository import open_repository
from lazyfs.repository.stored_history import read_history
from lazyfs.store import open_store

WARN_BEFORE = timedelta(days=60)
"""`resign` warns if metadata that it cannot renew expires sooner than this."""

_expiry_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--expiry",
    default=TIMESTAMP_DAYS,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Days until the timestamp must be renewed.",
)


@click.group()
def command() -> None:
    """Make a repository, renew its expiry, replace its keys, keep revisions, show the signed revision."""


@command.command()
@click.argument("store")
@click.option("--name", required=True, help="The repository's name, for example unpacked.example.org.")
@keys_option
@click.option(
    "--root-keys", metavar="DIR", help="Directory of the root keys, to be kept offline [default: --keys]."
)
@click.option("--root-count", default=1, show_default=True, help="How many root keys to make.")
@click.option("--root-threshold", default=1, show_default=True, help="How many of them must sign a new root.")
@click.option(
    "--chunk-shift",
    default=Params().chunk_shift,
    show_default=True,
    type=click.IntRange(MIN_SHIFT, MAX_SHIFT),
    help="Files are cut into chunks of 2**N bytes.",
)
@click.option(
    "--keep-days",
    default=Params().keep_days,
    show_default=True,
    type=click.IntRange(0),
    help="How long a replaced revision stays readable.",
)
@_expiry_option
def init(
    store: str,
    name: str,
    keys: str | None,
    root_keys: str | None,
    root_count: int,
    root_threshold: int,
    chunk_shift: int,
    keep_days: int,
    expiry: float,
) -> None:
    """Make a repository: its keys, and an empty first revision in the directory STORE.

    \b
    Example:
      lazyfs repo init /srv/unpacked --name unpacked.example.org
    """
    new = lifecycle.init(
        store,
        name,
        datetime.now(UTC),
        keys=keys,
        root_keys=root_keys,
        root_count=root_count,
        root_threshold=root_threshold,
        params=Params(chunk_shift=chunk_shift, keep_days=keep_days),
        timestamp_days=expiry,
    )
    # cron starts in another directory
    place = store if "://" in store else os.path.abspath(store)
    daily = f"lazyfs repo resign {place}" + (f" --keys {os.path.abspath(keys)}" if keys else "")
    say(*_created(new, daily, expiry))


def _created(new: lifecycle.NewRepository, daily: str, expiry: float) -> list[str]:
    lines = [
        f"repository   {new.revision.name}, revision {new.revision.number}",
        f"keys         {new.keys_directory}",
        f"fingerprint  {new.fingerprint.hex()}",
        "Clients trust it with: lazyfs mount URL MOUNTPOINT --trust FINGERPRINT (or a copy of 1.root.json)",
        f"Run `{daily}` every day from cron: the timestamp expires after {expiry:g} days.",
    ]
    if new.root_keys_directory != new.keys_directory:
        lines.insert(2, f"root keys    {new.root_keys_directory}")
    return lines


@command.command()
@click.argument("store")
@keys_option
@_expiry_option
def resign(store: str, keys: str | None, expiry: float) -> None:
    """Renew the expiry of the committed revision; needs only the timestamp's key.

    Run it every day from cron: without it workers stop taking new revisions, and no first mount succeeds.

    \b
    Example:
      lazyfs repo resign /srv/unpacked
    """
    repository = open_repository(store, keys)
    now = datetime.now(UTC)
    renewed = lifecycle.resign(repository.store, repository.keys, now, expiry)
    say(f"timestamp expires {when(renewed.expires)}")
    if renewed.publisher_expires - now < WARN_BEFORE:
        say(
            f"lazyfs: targets and snapshot expire {when(renewed.publisher_expires)}: run resign or "
            "publish once on a machine that has the targets key",
            err=True,
        )


@command.command()
@click.argument("store")
@keys_option
def upgrade(store: str, keys: str | None) -> None:
    """Convert the repository to the newest format version; name, keys and fingerprint stay.

    Workers whose lazyfs does not know that version keep the revision before it: update them first. Images are
    converted from the objects in the store. Images and trees that cannot be converted, such as those of tar:
    and dir:, stay readable and are listed, to be published again.

    \b
    Example:
      lazyfs repo upgrade /srv/unpacked
    """
    repository = open_repository(store, keys)
    new = format_upgrade.upgrade(repository.store, repository.keys, datetime.now(UTC))
    revision = new or read_committed(repository.store).revision
    said = "is now" if new else "is already"
    say(f"{revision.name} revision {revision.number} {said} of format version {revision.params.version}")
    left = []
    for place, converted in convert(
        repository.store,
        repository.keys,
        lambda: datetime.now(UTC),
        lambda message: say(f"lazyfs: {message}", err=True),
    ):
        if converted:
            say(f"converted {place}")
        else:
            left.append(place)
    if left:
        say(
            "These have the older format. They can be read as they are; publish them again to put their "
            "small files into packs:",
            *(f"  {path}" for path in left),
        )


@command.command()
@click.argument("store")
@click.argument("role", type=click.Choice([ROOT, TARGETS, TIMESTAMP]))
@keys_option
@click.option(
    "--root-keys",
    metavar="DIR",
    multiple=True,
    help="Directories of the present root keys [default: --keys].",
)
@click.option(
    "--new-keys", metavar="DIR", help="Where new keys are written [default: --keys; for root: --root-keys]."
)
@click.option(
    "--count", default=1, show_default=True, type=click.IntRange(1), help="How many new keys to make."
)
@click.option(
    "--threshold", default=1, show_default=True, type=click.IntRange(1), help="How many of them must sign."
)
def rotate(
    store: str,
    role: str,
    keys: str | None,
    root_keys: tuple[str, ...],
    new_keys: str | None,
    count: int,
    threshold: int,
) -> None:
    """Replace the keys of ROLE by new ones, in a new root signed by the root keys.

    Clients follow by themselves; nothing has to be handed out again.
    """
    repository = open_repository(store, keys)
    directory = repository.keys_directory
    target = new_keys or (root_keys[0] if role == ROOT and root_keys else directory)
    key_files.check_apart(target, store)
    if threshold > count:
        raise UsageError(f"--threshold {threshold} is more than the {count} new keys: raise --count")
    present = repository.keys
    for place in root_keys:
        present |= key_files.load(place)
    dead = lifecycle.rotate(
        repository.store,
        role,
        lambda: key_files.generate(target, [role] * count),
        threshold,
        present,
        datetime.now(UTC),
    )
    say(f"{role}: {count} new in {target}, {threshold} needed")
    for place in {directory, *root_keys}:
        for path in key_files.retire(place, dead):
            say(f"retired {path}: destroy it")


@command.command()
@click.argument("store")
@click.option("--to", "directory", metavar="DIR", help="Where the new key is written.")
@click.option("--withdraw", is_flag=True, help="Let nobody sign profiles any more.")
@keys_option
def delegate(store: str, directory: str | None, withdraw: bool, keys: str | None) -> None:
    """Make a key that can sign profiles of starts and nothing else, for `lazyfs collect`.

    Clients believe its profiles from the next revision on. Give DIR to the machine that collects; the other
    keys stay where they are.

    \b
    Example:
      lazyfs repo delegate /srv/unpacked --to /etc/lazyfs/profiles-key
    """
    if withdraw == (directory is not None):
        raise UsageError("give either --to DIR, for a new key, or --withdraw")
    repository = open_repository(store, keys)
    now = datetime.now(UTC)
    if directory is None:
        gone = delegation.withdraw(repository.store, repository.keys, now)
        say(f"{repository.name}: {gone} keys may sign profiles no longer")
        return
    key_files.check_apart(directory, store)
    made: list[str] = []

    def make() -> list[CryptoSigner]:
        signers = key_files.generate(directory, [PROFILES])
        made.extend(signer.public_key.keyid for signer in signers)
        return signers

    delegation.delegate(repository.store, repository.keys, make, now)
    say(f"{repository.name}: key {made[0][:8]} in {directory} may sign profiles")


@command.command()
@click.argument("store")
def show(store: str) -> None:
    """Show the committed revision, its expiry, and the keys of each role."""
    opened = open_store(store)
    committed = read_committed(opened)
    revision, root, proven = committed.revision, committed.state.root, committed.proven
    say(f"repository   {revision.name}")
    say(f"revision     {revision.number} of {when(datetime.fromtimestamp(revision.time, UTC))}")
    say(f"format       version {revision.params.version}")
    for kept in read_history(opened, revision).names:
        say(f"kept         revision {kept.number} as {kept.name}")
    say(f"catalog      {revision.root.digest.hex()} ({revision.root.size} bytes)")
    say(f"fingerprint  {sha256(committed.state.root_bytes[0]).hex()}")
    for signed in (proven.timestamp, proven.snapshot, proven.targets, root):
        late = " EXPIRED" if signed.is_expired() else ""
        say(f"{signed.type:12} version {signed.version}, expires {when(signed.expires)}{late}")
    for role in (ROOT, TARGETS, TIMESTAMP):
        ids = " ".join(keyid[:8] for keyid in root.roles[role].keyids)
        say(f"{role} keys".ljust(16) + f"{root.roles[role].threshold} of {ids}")
    if delegated := delegation.delegated_keys(proven.targets):
        say("profiles keys".ljust(16) + "1 of " + " ".join(key.keyid[:8] for key in delegated))


command.add_command(keep)
command.add_command(release)
