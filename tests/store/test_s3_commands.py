"""The commands on a store in a bucket, and a mount of a bucket that everybody may read."""

import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs.store import StoreError, open_store
from tests.support.buckets import environment, new_place
from tests.support.cli import lazyfs, mounted
from tests.support.fake_registry import fake_registry
from tests.support.oci_images import Built, entry, layer
from tests.support.radosgw import Radosgw
from tests.support.s3_admin import let_everybody_read
from tests.support.s3_faults import S3Faults
from tests.support.service import built


class Operator:
    """An operator with a store in a bucket of its own."""

    def __init__(self, server: Radosgw, directory: Path) -> None:
        self.server = server
        self.bucket = f"public-{secrets.token_hex(4)}"
        self.place = new_place(server, self.bucket)
        self.keys = directory / "keys"
        self.variables = {
            **os.environ,
            **environment(server, home=str(directory)),
            "XDG_STATE_HOME": str(directory / "state"),
        }
        self.run("repo", "init", self.place, "--name", "test.example.org", "--keys", str(self.keys))

    def run(self, *words: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        return lazyfs(*words, check=check, env=self.variables | variables)


@pytest.fixture(scope="module")
def operator(s3_server: Radosgw, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """Returns an operator who has published two images."""
    directory = tmp_path_factory.mktemp("operator")
    operator = Operator(s3_server, directory)
    for name in ("a", "b"):
        Built([layer(entry("own", data=name.encode() * 5000))]).write_layout(directory / name)
        place = f"r.example/{name}:1"
        operator.run(
            "publish", f"oci:{directory / name}", operator.place, "--as", place, "--keys", str(operator.keys)
        )
    return operator


def test_every_command_takes_a_bucket_where_a_store_is(operator: Operator, tmp_path: Path) -> None:
    place, keys = operator.place, str(operator.keys)
    assert ": all right" in operator.run("check", place).stdout
    assert "revision 3" in operator.run("repo", "show", place).stdout or operator.run("log", place).stdout
    log = json.loads(operator.run("log", place, "--json").stdout.splitlines()[0])
    assert log
    assert "r.example/a:1" in operator.run("inspect", "r.example/a:1", place).stdout
    assert "own" in operator.run("diff", "r.example/a:1", "r.example/b:1", place, check=False).stdout
    operator.run("repo", "keep", "first", place, "--keys", keys)
    operator.run("rm", "r.example/b:1", place, "--keys", keys)
    assert "objects deleted" in operator.run("gc", place, "--keys", keys).stdout
    operator.run("repo", "resign", place, "--keys", keys)
    operator.run("rollback", place, "--to", "3", "--keys", keys)
    wishes, service = tmp_path / "wishes.yaml", tmp_path / "service.toml"
    wishes.write_text("version: 1\ninput:\n  - 'https://registry.example/team/app:1'\n")
    with fake_registry() as registry:
        registry.add(built("c"), "1")
        service.write_text(
            f'[registries."registry.example"]\naddress = "{registry.host}"\nplain-http = true\n'
        )
        status = str(tmp_path / "status")
        words = ["--keys", keys, "--status-dir", status, "--config", str(service)]
        assert "1 published" in operator.run("sync", str(wishes), place, *words).stdout
    assert "r.example/b:1" in operator.run("when", "r.example/b:1", place).stdout
    assert ": all right" in operator.run("check", place).stdout


@pytest.mark.parametrize("debug", [False, True])
def test_no_output_shows_a_secret(operator: Operator, tmp_path: Path, debug: bool) -> None:
    secret, token = secrets.token_hex(20), secrets.token_hex(30)
    words = ["--debug"] if debug else []
    done = operator.run(
        *words, "check", operator.place, check=False, AWS_SECRET_ACCESS_KEY=secret, AWS_SESSION_TOKEN=token
    )
    assert done.returncode == 1
    assert "status 403" in done.stderr
    assert ("Traceback" in done.stderr) == debug
    for hidden in (secret, token, operator.server.account.access_key):
        assert hidden not in done.stdout + done.stderr


def test_a_bucket_that_everybody_may_read_serves_a_mount(operator: Operator, tmp_path: Path) -> None:
    let_everybody_read(operator.server, operator.bucket)
    url = f"{operator.server.url}/{operator.place.removeprefix('s3://')}"
    shown = operator.run("repo", "show", operator.place).stdout
    fingerprint = re.search(r"fingerprint +([0-9a-f]{64})", shown)
    assert fingerprint is not None
    options = ["--trust", fingerprint[1], "--cache", str(tmp_path / "cache")]
    with mounted(url, tmp_path / "mnt", *options) as mountpoint:
        assert (mountpoint / "r.example/a:1/own").read_bytes() == b"a" * 5000


@pytest.mark.root
def test_a_start_is_recorded_from_the_url_of_a_bucket(operator: Operator, tmp_path: Path) -> None:
    let_everybody_read(operator.server, operator.bucket)
    busybox = entry("bin/cat", data=Path("/bin/busybox").read_bytes(), mode=0o755)
    layout = Built([layer(busybox, entry("read", data=b"read" * 5000))]).write_layout(tmp_path / "layout")
    place, keys = "r.example/started:1", ("--keys", str(operator.keys))
    operator.run("publish", f"oci:{layout}", operator.place, "--as", place, *keys)
    command = ("profile", "record", place, operator.place, *keys)
    refused = operator.run(*command, "--", "cat", "/read", check=False)
    assert refused.returncode == 1
    assert "cannot be mounted: name the URL" in refused.stderr
    url = f"{operator.server.url}/{operator.place.removeprefix('s3://')}"
    operator.run(*command, "--url", url, "--", "cat", "/read")
    shown = json.loads(operator.run("profile", "show", place, operator.place, "--json").stdout)
    assert shown["origin"] == "recorded"


def test_a_public_bucket_is_read_without_credentials(operator: Operator) -> None:
    let_everybody_read(operator.server, operator.bucket)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    variables = {name: text for name, text in operator.variables.items() if name not in names}
    done = lazyfs("check", operator.place, env=variables | {"AWS_SKIP_SIGNATURE": "true"})
    assert ": all right" in done.stdout


def test_what_a_bucket_answers_may_be_kept_by_proxies(operator: Operator) -> None:
    let_everybody_read(operator.server, operator.bucket)
    with S3Faults(operator.server) as proxy:
        operator.run("check", operator.place, AWS_ENDPOINT_URL=proxy.url)
        said = {request.target.rpartition("/")[2]: kept for request, kept in proxy.kept}
    assert said["timestamp.json"] == "public, max-age=30"
    assert said["1.root.json"] == "public, max-age=31536000, immutable"
    assert set(said.values()) == {"public, max-age=30", "public, max-age=31536000, immutable"}


def test_without_obstore_a_bucket_says_what_to_install(tmp_path: Path) -> None:
    script = "import sys; sys.modules['obstore'] = None; from lazyfs.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "check", "s3://bucket/x"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        2,
        "lazyfs: store s3://bucket/x: the Python package obstore is not installed: "
        "pip install 'lazyfs[s3]'\n",
    )


def test_a_machine_without_credentials_is_told_where_they_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(StoreError, match="AWS_PROFILE or AWS_ACCESS_KEY_ID"):
        open_store("s3://bucket/x").read_metadata("timestamp.json")
