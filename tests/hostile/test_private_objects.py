"""A repository behind a password, and a stranger's repository that names the same objects, in one mount with
one cache."""

import errno
import stat
from pathlib import Path

import pytest

from lazyfs.core.catalog.inode import Inode, Nested
from lazyfs.core.digest import ObjectRef, ref_of
from lazyfs.daemon.session_choice import KINDS
from tests.support.cli import lazyfs
from tests.support.images import image, live
from tests.support.kernel_caches import drop_kernel_caches
from tests.support.nginx import Nginx
from tests.support.repository import Published

pytestmark = pytest.mark.root
SECRET, PUBLIC = b"of our experiment alone\n" * 1000, b"of everybody\n" * 1000


class PasswordOrigin(Nginx):
    """Serves a store directory to clients that know the password."""

    def __init__(self, store: Path, password: str) -> None:
        super().__init__(
            "origin.conf",
            {
                "/srv/lazyfs/store": str(store),
                "server_name origin.example.org;": "server_name localhost; auth_basic lazyfs; "
                "auth_basic_user_file DIRECTORY/users;",
            },
        )
        (self.directory / "users").write_text(f"us:{{PLAIN}}{password}\n")


def repository(directory: Path, name: str, content: bytes) -> tuple[Published, Nested]:
    made = Published(directory, name)
    hung = image(made.objects, {"file": content})
    made.commit(live(made.objects, {"image": hung}))
    return made, hung


def stranger(directory: Path, named: dict[str, tuple[ObjectRef, Nested]]) -> Published:
    """Makes a repository whose catalogs refer to a file and an image of each repository in `named`. Its own
    store does not have these objects."""
    made = Published(directory, "stranger.example.org")
    files: dict[str, object] = {}
    for name, (ref, _) in named.items():
        mode = stat.S_IFREG | 0o644
        files[name] = Inode(mode, size=ref.size, content=ref.digest)
        files[name + "-short"] = Inode(mode, size=ref.size - 1, content=ref.digest)
    images = {name: hung for name, (_, hung) in named.items()}
    made.commit(live(made.objects, {"files": image(made.objects, files), **images}))
    return made


@pytest.mark.parametrize("session", KINDS)
def test_a_digest_opens_what_is_public_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: str
) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(mode=0o700)
    private, secret_image = repository(tmp_path / "private", "private.example.org", SECRET)
    public, public_image = repository(tmp_path / "public", "public.example.org", PUBLIC)
    other = stranger(
        tmp_path / "other",
        {"secret": (ref_of(SECRET), secret_image), "public": (ref_of(PUBLIC), public_image)},
    )
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    with PasswordOrigin(private.store, "word") as origin:
        url = origin.url.replace("://", "://us:word@")
        lines = []
        for name, made, place in (
            ("private", private, url), ("public", public, public.store), ("other", other, other.store)
        ):  # fmt: skip
            lines += [f"[repositories.{name}]", f'url = "{place}"']
            lines += [f'trust = "{made.store}/metadata/1.root.json"']
        (tmp_path / "site.toml").write_text("\n".join(lines))
        config, cache_directory = str(tmp_path / "site.toml"), str(tmp_path / "cache")
        arguments = ["--config", config, "--cache", cache_directory, "--fuse", session]
        lazyfs("mount", mnt, *arguments, "--patience", "5")
        try:
            for _ in range(2):  # first as fetched, then from the cache
                assert (mnt / "private/image/file").read_bytes() == SECRET
                assert (mnt / "public/image/file").read_bytes() == PUBLIC
                drop_kernel_caches(3)
            for path in ("other/files/secret", "other/files/secret-short", "other/files/public-short"):
                with pytest.raises(OSError, match=rf"Errno {errno.EIO}\b"):
                    (mnt / path).read_bytes()
            with pytest.raises(OSError, match=rf"Errno {errno.EIO}\b"):
                list((mnt / "other/secret").iterdir())
            assert (mnt / "other/files/public").read_bytes() == PUBLIC
            assert (mnt / "other/public/file").read_bytes() == PUBLIC
            cache = ("cache", "--cache", tmp_path / "cache")
            pinned = lazyfs(*cache, "pin", mnt / "private/image").stdout
            assert ": 3 objects" in pinned
            listed = lazyfs(*cache, "list", "--by", "image").stdout
            assert "private.example.org/image" in listed
        finally:
            lazyfs("umount", mnt)
        # Mounted anew, without the network: the cached objects still open in their own repositories only.
        origin.kill()
        lazyfs("mount", mnt, *arguments, "--patience", "5")
        try:
            assert (mnt / "private/image/file").read_bytes() == SECRET
            with pytest.raises(OSError, match=rf"Errno {errno.EIO}\b"):
                (mnt / "other/files/secret").read_bytes()
        finally:
            lazyfs("umount", mnt)
