"""Files beside a store for its web server, in a directory and in a bucket; the public status site in a bucket
as people's browsers get it."""

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.store import StoreError, open_web_files
from lazyfs.store.s3.web_files import BucketFiles
from lazyfs.store.web_files import WebFiles
from lazyfs.sync.run import sync
from lazyfs.sync.settings import RegistrySettings, ServiceSettings, Settings
from tests.support.buckets import environment, new_place, open_client
from tests.support.cli import lazyfs
from tests.support.fake_registry import fake_registry
from tests.support.radosgw import Radosgw
from tests.support.s3_admin import let_everybody_read
from tests.support.s3_faults import INTERNAL, NONE, S3Faults
from tests.support.service import built

FEED = "feeds/r.example/team/app@x:1.atom"


@pytest.fixture(params=["directory", "bucket"])
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], WebFiles]:
    """Returns a function that opens the web files once more, as the next run of the service does."""
    if request.param == "directory":
        return lambda: open_web_files(str(tmp_path), "status")
    server: Radosgw = request.getfixturevalue("s3_server")
    place = new_place(server)
    return lambda: BucketFiles(open_client(server, place), "status")


def test_files_are_written_found_and_deleted(again: Callable[[], WebFiles]) -> None:
    assert again().below("feeds") == []
    files = {FEED: b"one", "feeds/r.example/other.atom": b"two", "index.html": b"page"}
    again().update({path: data for path, data in files.items() if path == FEED}, durable=False)
    again().update(files)
    assert sorted(again().below("feeds")) == sorted(path for path in files if path != "index.html")
    assert again().below("feed") == [], "a folder is not the beginning of a name"
    again().delete([FEED])
    assert again().below("feeds") == ["feeds/r.example/other.atom"]
    again().delete([])
    again().update({})


def test_a_directory_whose_files_are_all_deleted_is_gone(tmp_path: Path) -> None:
    folder = open_web_files(str(tmp_path), "status")
    folder.update({FEED: b"one", "owners/atlas.atom": b"two"})
    folder.delete([FEED])
    assert [path.name for path in (tmp_path / "status").iterdir()] == ["owners"]


def test_only_what_differs_goes_to_the_bucket(s3_server: Radosgw) -> None:
    place = new_place(s3_server)
    files = {f"feeds/{number}.atom": b"%d" % number for number in range(30)} | {"index.html": b"page"}
    with S3Faults(s3_server) as proxy:

        def written(files: dict[str, bytes]) -> set[str]:
            proxy.forget()
            folder = BucketFiles(open_client(s3_server, place, proxy.url), "status")
            folder.update(files)
            folder.below("feeds")
            assert proxy.counts()["GET"] <= 2, "one listing, whose end is an empty page"
            return {request.target.partition("/status/")[2] for request in proxy.seen if request.is_write_of}

        assert written(files) == set(files)
        assert written(files) == set()
        assert written(files | {"index.html": b"pale"}) == {"index.html"}, "of the same length"
        failed = {"feeds/3.atom"}
        proxy.rule = lambda request: INTERNAL if request.is_write_of == "3.atom" else NONE
        folder = BucketFiles(open_client(s3_server, place, proxy.url, patience=0.1), "status")
        with pytest.raises(StoreError, match=r"PUT status/feeds/3\.atom: status 500"):
            folder.update(dict.fromkeys(files, b"new"))
        proxy.rule = lambda _request: NONE
        assert written(dict.fromkeys(files, b"new")) >= failed, "the next run mends it"


@pytest.mark.parametrize("location", ["ftp://host/store", "s3://user@bucket/x"])
def test_a_location_that_has_no_web_files_is_refused(location: str) -> None:
    with pytest.raises(UsageError):
        open_web_files(location, "status")


def test_the_public_site_lies_in_the_bucket_for_everybody(
    s3_server: Radosgw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = f"site-{secrets.token_hex(4)}"
    place = new_place(s3_server, bucket)
    for name, value in environment(s3_server, home=str(tmp_path)).items():
        monkeypatch.setenv(name, value)
    lazyfs("repo", "init", place, "--name", "test.example.org", "--keys", tmp_path / "keys")
    wishes = tmp_path / "wishes.yaml"
    wishes.write_text("lazyfs: 1\nimages:\n  - {image: 'r.example/team/app:1', owner: atlas}\n")
    let_everybody_read(s3_server, bucket)
    with fake_registry() as registry:
        registry.add(built("a"), "1")
        settings = Settings(
            ServiceSettings(site_in_store=True),
            {"r.example": RegistrySettings(address=registry.host, plain_http=True)},
        )
        for _ in range(2):
            sync(
                [str(wishes)], place, keys=str(tmp_path / "keys"), settings=settings,
                status_directory=str(tmp_path / "status"),
            )  # fmt: skip
    assert "all right" in lazyfs("check", place).stdout
    lazyfs("gc", place, "--keys", tmp_path / "keys")
    for name, kind in (
        ("index.html", "text/html; charset=utf-8"),
        ("site.css", "text/css; charset=utf-8"),
        ("site.js", "text/javascript; charset=utf-8"),
        ("status.json", "application/json"),
        ("feed.atom", "application/atom+xml"),
        ("feeds/r.example/team/app:1.atom", "application/atom+xml"),
    ):
        url = f"{s3_server.url}/{place.removeprefix('s3://')}/status/{name}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert answer.headers["Content-Type"] == kind
            assert answer.headers["Cache-Control"] == "public, max-age=60"
            page = answer.read()
        if name == "status.json":
            assert json.loads(page)["counts"]["published"] == 1
        assert b"atlas" not in page
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(url.replace("feeds/r.example/team/app:1", "owners/atlas"), timeout=20)
