"""The delegated key of a collector: it signs lists of profiles, and nothing else that a client believes."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Key, Targets

from lazyfs.client.collected_profiles import CollectedProfiles
from lazyfs.client.trust.revisions import Revisions
from lazyfs.core import codec, collected_profiles
from lazyfs.core.collected_profiles import CollectedProfile
from lazyfs.core.digest import ObjectRef, object_path, ref_of, sha256
from lazyfs.core.errors import TrustError
from lazyfs.core.params import Revision
from lazyfs.core.trust.delegation import delegations, load_profiles, to_targets
from lazyfs.core.trust.errors import Malformed, TooLarge, WrongKey
from lazyfs.core.trust.revision_fields import TARGET
from lazyfs.core.trust.revision_target import to_target
from lazyfs.core.trust.roles import PROFILES_FILE
from lazyfs.transport.fetcher import GivenUp, Request, never_cancelled
from tests.support.simulated_repository import SimulatedRepository

IMAGE = sha256(b"image")
OTHER = ObjectRef(sha256(b"other"), 9)
LISTED = [CollectedProfile(IMAGE, ObjectRef(sha256(b"profile"), 7))]


class Delegated:
    """A repository whose publisher has delegated profiles to one key, its collector, and a client."""

    def __init__(self, repository: SimulatedRepository, client: Revisions) -> None:
        self.repository, self.revisions = repository, client
        self.key = CryptoSigner.generate_ed25519()
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.collected = CollectedProfiles(self, client.targets)
        self.delegate(self.key)

    def delegate(self, *signers: CryptoSigner) -> None:
        """Delegates profiles to these keys alone, and makes the client trust the revision that says so."""
        keys: list[Key] = [signer.public_key for signer in signers]
        self.repository.targets.delegations = delegations(keys) if keys else None
        self.repository.bump()
        self.repository.refresh(self.revisions)

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        """Implements Fetcher."""
        self.asked.append(request.path)
        check_cancelled()
        if request.path in self.objects:
            return request.accept(self.objects[request.path])
        return self.repository.fetch(request, check_cancelled)

    def close(self) -> None:
        """Implements Fetcher."""

    def publish(
        self,
        listed: list[CollectedProfile],
        version: int = 1,
        signer: CryptoSigner | None = None,
        change: Callable[[Targets], object] = lambda _: None,
    ) -> None:
        """Publishes a list of profiles, by default as the collector does."""
        plain = collected_profiles.encode(listed)
        ref = ref_of(plain)
        self.objects[object_path(ref.digest)] = codec.encode(plain)
        targets = to_targets(ref, version)
        targets.expires = self.repository.now + timedelta(days=30)
        change(targets)
        self.repository.files[PROFILES_FILE] = self.repository.sign(targets, [signer or self.key])

    def refresh(self, now: datetime | None = None) -> ObjectRef | None:
        """Makes the client look for a new list of profiles. Returns the profile that it then has for IMAGE;
        None if it has none."""
        self.collected.refresh(now or self.repository.now, time.monotonic() + 30)
        return self.collected.of(IMAGE)


@pytest.fixture
def delegated(repository: SimulatedRepository, client: Revisions) -> Delegated:
    return Delegated(repository, client)


PROFILE = LISTED[0].profile


def test_a_client_takes_profiles_of_the_delegated_key(delegated: Delegated) -> None:
    assert delegated.refresh() is None
    delegated.publish(LISTED)
    assert delegated.refresh() == PROFILE
    delegated.asked.clear()
    assert delegated.refresh() == PROFILE
    assert delegated.asked == [f"metadata/{PROFILES_FILE}"]
    delegated.publish([], version=2)
    assert delegated.refresh() is None


@pytest.mark.parametrize("last", ["the signed file", "the list"])
def test_a_look_that_nobody_waits_for_any_more_ends(delegated: Delegated, last: str) -> None:
    """Regression: the look went on until its deadline, and the end of the mount waited for it."""
    delegated.publish(LISTED)
    delegated.asked.clear()
    requests = 1 if last == "the signed file" else 2

    def check() -> None:
        if len(delegated.asked) == requests:
            raise GivenUp

    with pytest.raises(GivenUp):
        delegated.collected.refresh(delegated.repository.now, time.monotonic() + 30, check)


def test_without_a_delegation_nothing_is_asked_for(
    repository: SimulatedRepository, client: Revisions
) -> None:
    collected = CollectedProfiles(repository, client.targets)
    repository.fetched()
    collected.refresh(repository.now, time.monotonic() + 30)
    assert not repository.fetched()


@pytest.mark.parametrize("role", ["root", "targets", "timestamp", "stranger"])
def test_profiles_of_any_other_key_are_passed_over(delegated: Delegated, role: str) -> None:
    delegated.publish(LISTED)
    delegated.refresh()
    signers = delegated.repository.signers | {"stranger": [CryptoSigner.generate_ed25519()]}
    delegated.publish([], version=2, signer=signers[role][0])
    assert delegated.refresh() == PROFILE


@pytest.mark.parametrize("signed", [("targets",), ("targets", "snapshot"), ("timestamp",), ("root",)])
def test_the_key_cannot_sign_a_revision(delegated: Delegated, signed: tuple[str, ...]) -> None:
    """A thief of the delegated key signs the files of a new revision with it, for one or two roles at a
    time."""
    repository, client = delegated.repository, delegated.revisions
    before = repository.refresh(client)
    for role in signed:
        repository.signers[role] = [delegated.key]
    if signed == ("root",):
        repository.root.version += 1
        repository.write_root()
    repository.publish()
    with pytest.raises(WrongKey):
        repository.refresh(client)
    assert client.serving(repository.now) == before


def test_a_target_of_a_revision_in_the_list_of_profiles_is_no_revision(delegated: Delegated) -> None:
    """The file that the delegated key signs may also name a root catalog, but no client looks for one in this
    file."""
    repository, client = delegated.repository, delegated.revisions
    before = repository.refresh(client)
    evil = Revision(repository.name, before.number + 1, before.time, ref_of(b"evil"), repository.params)

    def add(targets: Targets) -> None:
        targets.targets[TARGET] = to_target(evil)

    delegated.publish(LISTED, change=add)
    assert delegated.refresh() is None
    # nor is the file taken for the publisher's own
    repository.files[f"{repository.targets.version}.targets.json"] = repository.files[PROFILES_FILE]
    repository.bump()
    repository.files[f"{repository.targets.version}.targets.json"] = repository.files[PROFILES_FILE]
    with pytest.raises(TrustError):
        repository.refresh(client)
    assert client.serving(repository.now) == before


def test_a_key_that_may_sign_no_longer_is_not_believed(delegated: Delegated) -> None:
    """The lists that a replaced key has signed are dropped, and their version numbers are forgotten: a thief
    may have run them up."""
    delegated.publish(LISTED, version=2**60)
    assert delegated.refresh() == PROFILE
    new = CryptoSigner.generate_ed25519()
    delegated.delegate(new)
    assert delegated.refresh() is None
    delegated.publish(LISTED, version=2**60 + 1)
    assert delegated.refresh() is None
    delegated.publish([LISTED[0]._replace(profile=OTHER)], version=1, signer=new)
    assert delegated.refresh() == OTHER
    delegated.delegate()
    assert delegated.refresh() is None


def test_an_older_list_and_an_expired_one_are_passed_over(delegated: Delegated) -> None:
    delegated.publish(LISTED, version=2)
    assert delegated.refresh() == PROFILE
    delegated.publish([], version=1)
    assert delegated.refresh() == PROFILE
    delegated.publish(LISTED, version=3)
    assert delegated.refresh(delegated.repository.now + timedelta(days=31)) is None


@pytest.mark.parametrize("shown", ["an older list", "a list of a stranger's", "nothing"])
def test_the_present_list_is_dropped_when_it_expires(delegated: Delegated, shown: str) -> None:
    delegated.publish(LISTED, version=2)
    assert delegated.refresh() == PROFILE
    if shown == "nothing":
        del delegated.repository.files[PROFILES_FILE]
    else:
        signer = CryptoSigner.generate_ed25519() if "stranger" in shown else None
        delegated.publish(LISTED, version=1, signer=signer)
    assert delegated.refresh(delegated.repository.now + timedelta(days=29)) == PROFILE
    assert delegated.refresh(delegated.repository.now + timedelta(days=31)) is None


def test_a_list_that_is_missing_or_wrong_leaves_the_last_one(delegated: Delegated) -> None:
    delegated.publish(LISTED)
    assert delegated.refresh() == PROFILE
    delegated.publish([LISTED[0]._replace(profile=OTHER)], version=2)
    (path,) = delegated.objects.keys() - set(delegated.asked)
    frame = delegated.objects.pop(path)
    assert delegated.refresh() == PROFILE  # NotFound
    delegated.objects[path] = codec.encode(b"something else")
    assert delegated.refresh() == PROFILE
    delegated.objects[path] = frame
    assert delegated.refresh() == OTHER


def test_what_is_no_signed_list_is_refused(delegated: Delegated) -> None:
    publisher = delegated.revisions.targets()
    assert publisher is not None
    for data, error in ((b"{}", Malformed), (b"[" * 10_000, Malformed), (bytes(20_000), TooLarge)):
        with pytest.raises(error):
            load_profiles(data, publisher)
    delegated.publish(LISTED, change=lambda targets: setattr(targets, "targets", {}))
    with pytest.raises(Malformed, match="anything but one list"):
        load_profiles(delegated.repository.files[PROFILES_FILE], publisher)
    publisher.delegations = None
    with pytest.raises(WrongKey, match="lets nobody"):
        load_profiles(delegated.repository.files[PROFILES_FILE], publisher)


def test_a_saved_revision_with_a_delegation_is_trusted_offline(delegated: Delegated, tmp_path: Path) -> None:
    restarted = delegated.repository.client(tmp_path)
    assert restarted.offline(delegated.repository.now) == delegated.revisions.serving(
        delegated.repository.now
    )
    assert restarted.targets() == delegated.revisions.targets()
