"""Whatever the bytes are, the trust rules either accept signed content or raise a TrustError."""

import json
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Metadata

from lazyfs.core import bounds
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.errors import TrustError, UnsupportedFormat
from lazyfs.core.params import Revision
from lazyfs.core.trust.quick_check import proven
from lazyfs.core.trust.revision_target import from_targets, to_target
from lazyfs.core.trust.state import TrustState, bootstrap, restore, save
from lazyfs.core.trust.update import Update
from tests.support.simulated_repository import START, SimulatedRepository

NAMES = ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"]


@cache
def scene() -> tuple[SimulatedRepository, TrustState]:
    """Returns a repository at revision 2 with a second root, and the state of a client at revision 1."""
    repository = SimulatedRepository()
    state = advance(bootstrap(repository.files["1.root.json"]), repository.files, 1)
    repository.publish()
    repository.root.version = 2
    repository.write_root()
    return repository, state


def advance(state: TrustState, files: dict[str, bytes], number: int) -> TrustState:
    """Returns the client's state after it has read these files."""
    update = Update(state, START + timedelta(hours=1))
    if number == 2:
        update.root(files["2.root.json"])
    if update.timestamp(files["timestamp.json"]) is not None:
        update.snapshot(files[f"{number}.snapshot.json"])
        update.targets(files[f"{number}.targets.json"])
    return update.state


HUGE = [-1, 0, 2**53, 2**63 - 1, 2**63, 2**64, 10**308, 10**4299, -(10**4299)]
"""Numbers that are valid in JSON, but not in other formats. Python parses no number with more digits than the
largest one."""
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(HUGE) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the path of every value in a JSON document, as a tuple of keys and indices."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [prefix, *(place for key, inner in items for place in places(inner, (*prefix, key)))]


def replaced(document: Any, place: tuple[Any, ...], new: Any) -> Any:
    """Returns a copy of the document in which the value at `place` is `new`. If `new` is `...`, the key is
    removed."""
    if not place:
        return None if new is ... else new
    copy = dict(document) if isinstance(document, dict) else list(document)
    if len(place) == 1 and new is ...:
        del copy[place[0]]
    else:
        copy[place[0]] = replaced(copy[place[0]], place[1:], new)
    return copy


@given(st.sampled_from(NAMES), st.binary(max_size=200) | json_values.map(lambda v: json.dumps(v).encode()))
def test_any_bytes(name: str, body: bytes) -> None:
    repository, state = scene()
    with pytest.raises(TrustError):
        advance(state, {**repository.files, name: body}, 2)


@given(st.sampled_from(NAMES), st.data())
@settings(max_examples=300)
def test_any_change_to_a_signed_file(name: str, data: st.DataObject) -> None:
    repository, state = scene()
    document = json.loads(repository.files[name])
    place = data.draw(st.sampled_from(places(document)))
    changed = replaced(document, place, data.draw(st.just(...) | json_values))
    body = json.dumps(changed, separators=(",", ":")).encode()
    try:
        result = advance(state, {**repository.files, name: body}, 2)
    except TrustError:
        return
    # An accepted file has the same signed part as before, e.g. if a second, unknown signature was added.
    assert result.proven is not None
    assert result.proven.revision == repository.revision
    # The parts are compared as TUF reads them: a null spec_version, say, is read as the signed version.
    before = Metadata[Any].from_bytes(repository.files[name])
    assert Metadata[Any].from_bytes(body).signed == before.signed


@given(st.data())
@settings(max_examples=300)
def test_any_change_to_what_the_publisher_signs(data: st.DataObject) -> None:
    """The bad values are properly signed: what a publisher's bug produces is refused like an attack."""
    repository, state = scene()
    role = data.draw(st.sampled_from(["timestamp", "snapshot", "targets"]))
    signed = getattr(repository, role).to_dict()
    place = data.draw(st.sampled_from(places(signed)))
    changed = replaced(signed, place, data.draw(st.just(...) | json_values))
    try:
        body = repository.sign(type(getattr(repository, role)).from_dict(json.loads(json.dumps(changed))))
    except Exception:  # noqa: BLE001
        return  # no publisher built on tuf.api can write this
    name = "timestamp.json" if role == "timestamp" else f"2.{role}.json"
    try:
        result = advance(state, {**repository.files, name: body}, 2)
    except (TrustError, UnsupportedFormat):
        return
    assert result.proven is not None
    assert result.proven.revision.number in (1, 2)


@given(json_values, st.dictionaries(st.sampled_from(["name", "revision", "time", "params"]), json_values))
def test_any_custom_field(whole: Any, fields: dict[str, Any]) -> None:
    repository, _ = scene()
    targets = repository.clone().targets
    true = targets.targets["catalog"].custom
    for custom in (whole, {**true, **fields}):
        targets.targets["catalog"].unrecognized_fields["custom"] = custom
        try:
            revision = from_targets(targets)
        except (TrustError, UnsupportedFormat):
            continue
        assert revision.number >= 1
        assert to_target(revision).length == revision.root.size


@given(st.binary(max_size=200) | json_values.map(lambda v: json.dumps(v).encode()))
def test_any_saved_state(body: bytes) -> None:
    with pytest.raises(TrustError):
        restore(body, None)


@given(st.data())
def test_any_change_to_the_saved_state(data: st.DataObject) -> None:
    _, state = scene()
    saved = save(state)
    place = data.draw(st.integers(0, len(saved) - 1))
    changed = saved[:place] + data.draw(st.binary(max_size=3)) + saved[place + data.draw(st.integers(0, 3)) :]
    try:
        restored = restore(changed, state)
    except TrustError:
        return
    assert restored.proven is None or (state.proven and restored.proven.revision == state.proven.revision)


REFS = st.builds(ObjectRef, st.binary(min_size=32, max_size=32), st.integers(1, bounds.OBJECT))


@given(
    st.builds(
        Revision,
        st.text(),
        st.integers(1, 2**63 - 2),
        st.integers(0, 2**37),
        REFS,
        st.just(SimulatedRepository().params),
        st.none() | REFS,
    )
)
def test_a_revision_survives_its_target(revision: Revision) -> None:
    repository, _ = scene()
    targets = repository.clone().targets
    targets.targets["catalog"] = to_target(revision)
    assert from_targets(targets) == revision


def test_a_saved_state_survives() -> None:
    repository, state = scene()
    later = advance(state, repository.files, 2)
    for anchor in (None, state, sha256(state.root_bytes[0])):
        restored = restore(save(later), anchor)
        assert save(restored) == save(later)
        assert restored.proven is not None
        assert restored.proven.revision == repository.revision


@given(st.data())
@settings(max_examples=300)
def test_the_quick_check_believes_nothing_that_restoring_refuses(data: st.DataObject) -> None:
    repository, state = scene()
    saved = json.loads(save(advance(state, repository.files, 2)))
    name = data.draw(st.sampled_from(["timestamp", "snapshot", "targets", "roots", "root_version"]))
    part = saved if name == "roots" else data.draw(st.sampled_from([saved, saved["earlier"]]))
    if name == "root_version":
        part[name] = data.draw(json_values)
    else:
        at = data.draw(st.integers(0, len(saved["roots"]) - 1)) if name == "roots" else None
        document = json.loads(part[name] if at is None else part[name][at])
        place = data.draw(st.sampled_from(places(document)))
        changed = json.dumps(replaced(document, place, data.draw(st.just(...) | json_values)))
        if at is None:
            part[name] = changed
        else:
            part[name][at] = changed
    body = json.dumps(saved).encode()
    anchor = data.draw(st.sampled_from([None, state.root_bytes[0], sha256(state.root_bytes[0]), b"x" * 32]))
    found = proven(body, anchor)
    if found is None:
        return
    trusted = state if anchor == state.root_bytes[0] else Digest(anchor) if anchor else None
    restored = restore(body, trusted)
    assert restored.proven is not None
    assert restored.last_shown is not None
    assert restored.last_shown.revision == found.revision
    assert restored.proven.timestamp.expires == found.expires


@given(st.binary(max_size=200) | json_values.map(lambda v: json.dumps(v).encode()))
def test_the_quick_check_of_any_bytes(body: bytes) -> None:
    assert proven(body, None) is None


def test_the_quick_check_knows_what_a_mount_has_saved() -> None:
    repository, state = scene()
    later = advance(state, repository.files, 2)
    assert state.proven is not None
    for anchor in (None, state.root_bytes[0], sha256(state.root_bytes[0])):
        found = proven(save(later), anchor)
        assert found is not None
        assert found.revision == state.proven.revision  # revision 2 is not shown yet
        found = proven(save(later.note_shown(repository.revision)), anchor)
        assert found is not None
        assert found.revision == repository.revision
    assert proven(save(later), sha256(b"another root")) is None
    assert proven(save(bootstrap(state.root_bytes[0])), None) is None  # nothing is proven yet


@pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets"])
def test_the_quick_check_refuses_what_does_not_belong_together(name: str) -> None:
    """Each file is signed and valid, but belongs to another revision."""
    repository, state = scene()
    old, new = json.loads(save(state)), json.loads(save(advance(state, repository.files, 2)))
    for one, other in ((new, old), (new["earlier"], new)):
        kept, one[name] = one[name], other[name]
        assert proven(json.dumps(new).encode(), None) is None
        one[name] = kept
    assert proven(json.dumps(new).encode(), None) is not None
