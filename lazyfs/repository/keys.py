"""Signing keys: Ed25519 in PEM files, one directory per repository, never below a web server's root.

There are three keys: the root's, the publisher's, which signs the files targets and snapshot, and the
timestamp's. The timestamp's key alone renews the expiry, so a machine that renews it from cron cannot
publish.
"""

import os
import re
import stat
from collections.abc import Iterable

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.system.durable_file import write_durably

_SUFFIX = ".pem"
_RETIRED = ".retired"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Keys:
    """The private keys in one directory."""

    def __init__(self, signers: Iterable[CryptoSigner] = ()) -> None:
        self._signers = {signer.public_key.keyid: signer for signer in signers}

    def __or__(self, other: "Keys") -> "Keys":
        return Keys([*self._signers.values(), *other._signers.values()])

    def signers(self, root: Root, role: str) -> list[CryptoSigner]:
        """Returns the keys whose signature counts for `role` under `root`, in the root's order."""
        return [self._signers[keyid] for keyid in root.roles[role].keyids if keyid in self._signers]

    def of(self, keyid: str) -> CryptoSigner | None:
        """Returns the key with this id; None if the directory does not have it."""
        return self._signers.get(keyid)

    def require(self, root: Root, role: str, where: str) -> list[CryptoSigner]:
        """Returns the keys whose signature counts for `role` under `root`. Raises UsageError if they are
        fewer than the role demands. `where`: the option that names the keys' directory, for the message."""
        found, threshold = self.signers(root, role), root.roles[role].threshold
        if len(found) < threshold:
            raise UsageError(
                f"{len(found)} of the {threshold} {role} keys needed are in {where}: "
                "name the directory that holds them"
            )
        return found


def check_repository_name(name: str) -> str:
    """Returns the name unchanged. Raises UsageError if it cannot be a directory's name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"repository name {name!r}: use letters, digits, '.', '_' and '-', starting with a letter "
            "or digit, for example unpacked.example.org"
        )
    return name


def default_directory(name: str) -> str:
    """Returns `~/.config/lazyfs/keys/NAME`, or the same below XDG_CONFIG_HOME."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(config, "lazyfs", "keys", check_repository_name(name))


def check_apart(keys_directory: str, store: str) -> None:
    """Raises UsageError if the keys would lie under the store, where a web server serves them."""
    keys, top = os.path.realpath(keys_directory), os.path.realpath(store)
    if os.path.commonpath([keys, top]) == top:
        raise UsageError(
            f"keys directory {keys_directory} lies under the store {store}, which is served to everybody: "
            "choose another with --keys"
        )


def is_empty(directory: str) -> bool:
    """Returns True if the directory does not exist or holds no key, not even a retired one."""
    try:
        return not any(name.endswith((_SUFFIX, _RETIRED)) for name in os.listdir(directory))
    except FileNotFoundError:
        return True
    except OSError as error:
        raise UsageError(f"keys directory {directory}: {error.strerror}") from None


def generate(directory: str, roles: Iterable[str]) -> list[CryptoSigner]:
    """Makes one key for each of `roles` and writes it, mode 0600, into the directory, which gets mode 0700.

    Raises UsageError for a directory that other users may enter, LazyfsError if it cannot be written.
    """
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        _check_mode(directory, 0o700)
        return [_write(directory, role, CryptoSigner.generate_ed25519()) for role in roles]
    except OSError as error:
        raise LazyfsError(f"keys directory {directory}: {error.strerror}") from error


def load(directory: str) -> Keys:
    """Returns the keys in a directory. Raises UsageError if there are none, or if other users can read
    them."""
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(_SUFFIX))
    except OSError as error:
        raise UsageError(
            f"keys directory {directory}: {error.strerror}; name the one that `lazyfs repo init` made "
            "with --keys"
        ) from None
    signers = []
    for name in names:
        path = os.path.join(directory, name)
        _check_mode(path, 0o600)
        try:
            with open(path, "rb") as file:
                signers.append(CryptoSigner(load_pem_private_key(file.read(), None)))
        except OSError as error:
            raise UsageError(
                f"key file {path}: {error.strerror}; run this as the user who owns it, or name other keys "
                "with --keys"
            ) from None
        except (ValueError, TypeError) as error:
            raise UsageError(f"key file {path} is no private key without a passphrase: {error}") from None
    if not signers:
        raise UsageError(f"keys directory {directory} holds no *.pem: name another with --keys")
    return Keys(signers)


def retire(directory: str, keyids: Iterable[str]) -> list[str]:
    """Renames the files of these keys so that they are no longer used, and returns their new paths."""
    renamed = []
    gone = set(keyids)
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if not name.endswith(_SUFFIX):
            continue
        with open(path, "rb") as file:
            signer = CryptoSigner(load_pem_private_key(file.read(), None))
        if signer.public_key.keyid in gone:
            os.rename(path, path + _RETIRED)
            renamed.append(path + _RETIRED)
    return renamed


def _write(directory: str, role: str, signer: CryptoSigner) -> CryptoSigner:
    path = os.path.join(directory, f"{role}-{signer.public_key.keyid[:8]}{_SUFFIX}")
    write_durably(path, signer.private_bytes, replace=False)
    return signer


def _check_mode(path: str, allowed: int) -> None:
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & ~allowed:
        raise UsageError(
            f"{path} has mode {mode:04o}, private keys need {allowed:04o}: chmod {allowed:o} {path}"
        )
