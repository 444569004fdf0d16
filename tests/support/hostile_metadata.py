"""Metadata whose fields have extreme values, signed with the right keys."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Metadata, Root

from lazyfs.repository import keys
from tests.support import hostile_catalogs as hostile
from tests.support.repository import Published

VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [*hostile.NUMBERS, *hostile.SIGNED, 10**400, None, True, "", "x", "\x1b[2J\n", [], {}, [[]], [None]]
    ),
    st.sampled_from(
        [
            *("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "x" * 100_000, "\0"),
            *("../../x", "/etc/passwd", "1.0.31", "2.0", "root", "sha256", "00" * 32, "\ud800"),
        ]
    ),
)
_ROLES = ("timestamp", "snapshot", "targets")


class MetadataChange(NamedTuple):
    """Another value for one field of a metadata file."""

    role: str
    place: int
    """The position of the changed value in a walk through the file, modulo the number of values."""
    value: Any
    deleted: bool


def changes(*roles: str) -> st.SearchStrategy[MetadataChange]:
    return st.builds(
        MetadataChange,
        st.sampled_from(roles),
        st.integers(0, 40),
        VALUES,
        st.sampled_from([False, False, True]),
    )


class HostileMetadata:
    """Writes changed metadata into a repository's store. Each write increases the versions, so that clients
    read it."""

    def __init__(self, made: Published) -> None:
        self._directory = made.store / "metadata"
        self._keys = keys.load(str(made.keys))
        self._root = Metadata[Root].from_file(str(self._newest("root"))).signed
        self._right = {role: _signed_part(self._newest(role)) for role in ("root", *_ROLES)}
        self._version: int = self._right["timestamp"]["version"]

    def write(self, change: MetadataChange) -> bool:
        """Writes metadata with this change. Returns False if the changed value cannot be signed."""
        try:
            if change.role == "root":
                self._write_root(change)
            else:
                self._write_revision(change)
        except (TypeError, ValueError, UnicodeEncodeError):
            return False
        except Exception as error:
            if "canonical" in str(error).lower() or type(error).__name__ == "FormatError":
                return False
            raise
        return True

    def _write_root(self, change: MetadataChange) -> None:
        root = json.loads(json.dumps(self._right["root"]))
        root["version"] += 1
        name = f"{root['version']}.root.json"
        (self._directory / name).write_bytes(self._signed("root", _changed(root, change)))

    def _write_revision(self, change: MetadataChange) -> None:
        self._version += 1
        parts = {role: json.loads(json.dumps(self._right[role])) for role in _ROLES}
        for part in parts.values():
            part["version"] = self._version
        parts["snapshot"]["meta"]["targets.json"] = {"version": self._version}
        files: dict[str, bytes] = {}
        for role in ("targets", "snapshot", "timestamp"):
            if role == "timestamp":
                named = files["snapshot"]
                parts[role]["meta"]["snapshot.json"] = {
                    "version": self._version,
                    "length": len(named),
                    "hashes": {"sha256": sha256(named).hexdigest()},
                }
            part = _changed(parts[role], change) if role == change.role else parts[role]
            files[role] = self._signed(role, part)
        for role in ("targets", "snapshot"):
            (self._directory / f"{self._version}.{role}.json").write_bytes(files[role])
        (self._directory / "timestamp.json").write_bytes(files["timestamp"])

    def _newest(self, role: str) -> Path:
        if role == "timestamp":
            return self._directory / "timestamp.json"
        found = self._directory.glob(f"*.{role}.json")
        return max(found, key=lambda path: int(path.name.partition(".")[0]))

    def _signed(self, role: str, part: dict[str, Any]) -> bytes:
        payload = encode_canonical(part)
        assert payload is not None
        made = [signer.sign(payload.encode()) for signer in self._keys.signers(self._root, role)]
        signatures = [{"keyid": one.keyid, "sig": one.signature} for one in made]
        return json.dumps({"signatures": signatures, "signed": part}).encode()


def _signed_part(path: Path) -> dict[str, Any]:
    part: dict[str, Any] = json.loads(path.read_bytes())["signed"]
    return part


def _changed(part: dict[str, Any], change: MetadataChange) -> dict[str, Any]:
    places = list(_places(part))
    container, key = places[change.place % len(places)]
    if change.deleted:
        del container[key]
    else:
        container[key] = change.value
    return part


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yields (container, key) of every value in a document."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)
