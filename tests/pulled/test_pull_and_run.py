"""`lazyfs run docker://...`, `https://...sif` and `oci:...`: an image in a mount is preferred; any other one
is pulled once and kept."""

import json
import os
import shutil
import ssl
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.cli import LAZYFS, lazyfs, mounted, new_repository
from tests.support.oci_images import TAG, Built, entry, layer
from tests.support.open_paths import open_to_all
from tests.support.registry import PASSWORD, USER, RealRegistry, real_registry
from tests.support.runtimes import apptainer_prefix, search_path
from tests.support.tls import Authority, Pair

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


def image(word: str, machine: str = "amd64") -> Built:
    with open("/bin/busybox", "rb") as program:
        busybox = entry("bin/busybox", data=program.read(), mode=0o755)
    links = [entry(f"bin/{name}", tarfile.SYMTYPE, linkname="busybox") for name in ("sh", "cat", "sleep")]
    return Built(
        [layer(busybox, *links), layer(entry("word", data=word.encode()))],
        config={"Cmd": ["cat", "/word"]},
        architecture=machine,
    )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("registry"), accounts_needed=False) as found:
        yield found


class Home:
    """A user's home with a store of pulled images."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images = path / f"images/{os.geteuid()}"
        self.images.parent.mkdir()
        self.settings = path / "run.toml"
        self.settings.write_text(f'image_store = "{self.images.parent}"\n')
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DOCKER")},
            "PATH": search_path(),
            "HOME": str(path),
            "LAZYFS_RUN_SETTINGS": str(self.settings),
        }

    def run(self, *arguments: str, pass_fds: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LAZYFS, "run", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            pass_fds=pass_fds,
        )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_what_is_not_mounted_is_pulled_and_kept(registry: RealRegistry, home: Home) -> None:
    registry.put(image("pulled"), "team/kept", "1")
    source = f"docker://{registry.host}/team/kept:1"
    done = home.run(source, "--plain-http")
    assert done.stdout == "pulled"
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"lazyfs: {source} is not mounted here: pulling it, 1 MiB in 2 layers")
    assert registry.requests() != []
    done = home.run(source, "--plain-http", "--json")
    assert done.stdout == "pulled"
    assert json.loads(done.stderr)["image"].startswith(str(home.images))
    assert registry.requests() == []
    registry.put(image("newer"), "team/kept", "1")
    assert home.run(source, "--plain-http").stdout == "pulled"
    assert home.run(source, "--plain-http", "--pull", "always").stdout == "newer"
    assert home.run(source, "--plain-http").stdout == "newer"


def test_many_at_once_pull_once(registry: RealRegistry, home: Home) -> None:
    built = image("once " * 1000)
    registry.put(built, "team/once", "1")
    command = [*LAZYFS, "run", f"docker://{registry.host}/team/once:1", "--plain-http"]
    registry.blobs_read()
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env=home.environment, text=True) for _ in range(4)
    ]
    assert [process.communicate()[0] for process in started] == ["once " * 1000] * 4
    word = built.layer_descriptors[1]
    assert registry.blobs_read()[word["digest"]] == word["size"]  # the log's sum: it was read once


def test_a_mounted_image_is_not_pulled(registry: RealRegistry, home: Home, tmp_path: Path) -> None:
    registry.put(image("from the registry"), "team/mounted", "1")
    layout = image("from the mount").write_layout(tmp_path / "layout")
    store, keys = new_repository(tmp_path)
    name = f"{registry.host}/team/mounted:1"
    lazyfs("publish", f"oci:{layout}:{TAG}", store, "--as", name, "--keys", keys)
    options = ("--cache", tmp_path / "objects", "--trust", store / "metadata/1.root.json")
    with mounted(store, tmp_path / "mnt", *options):
        assert home.run(f"docker://{name}", "--plain-http").stdout == "from the mount"
        done = home.run(f"docker://{registry.host}/team/none:1", "--plain-http", "--no-pull")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "not found in" in line
    assert "--no-pull" in line
    assert not home.images.exists()


@pytest.mark.parametrize("option", [["--no-pull"], ["--pull", "never"], ["--explain"]])
def test_nothing_is_pulled_where_that_is_forbidden(
    registry: RealRegistry, home: Home, option: list[str]
) -> None:
    registry.requests()
    done = home.run(f"docker://{registry.host}/team/kept:1", "--plain-http", *option)
    assert done.returncode == 2
    assert "it is not pulled now" in done.stderr
    assert registry.requests() == []


@pytest.mark.parametrize("how", ["oci", "docker-archive"])
def test_layouts_and_archives(home: Home, tmp_path: Path, how: str) -> None:
    built = image("from a file")
    if how == "oci":
        source = f"oci:{built.write_layout(tmp_path / 'layout')}:{TAG}"
    else:
        with open("/bin/busybox", "rb") as program:
            busybox = entry("bin/busybox", data=program.read(), mode=0o755)
        layers = [
            layer(busybox, entry("bin/cat", tarfile.SYMTYPE, linkname="busybox")),
            layer(entry("word", data=b"from a file")),
        ]
        built = Built(layers, config={"Cmd": ["cat", "/word"]})
        source = f"docker-archive:{built.write_archive(tmp_path / 'image.tar', layers, ['app:1'])}"
    assert home.run(source).stdout == "from a file"
    done = home.run(source, "--result", str(tmp_path / "result"))
    assert (done.stdout, done.stderr) == ("from a file", "")  # kept


def test_a_sif_file_by_https(home: Home, tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    (root / "bin/cat").symlink_to("busybox")
    (root / "word").write_text("from a SIF file")
    program = str(apptainer_prefix() / "usr/bin/apptainer")
    subprocess.run([program, "--silent", "build", str(served / "image.sif"), str(root)], check=True)
    (served / "other.sif").write_text("no SIF file, but long enough to have a magic number at byte 32")
    (served / "short.sif").write_bytes((served / "image.sif").read_bytes()[:-4096])
    open_to_all(served)
    authority = Authority(tmp_path)
    pair = authority.server("localhost")
    home.environment["SSL_CERT_FILE"] = str(authority.ca)
    with _https(served, pair) as url:
        done = home.run(f"{url}/image.sif", "--", "cat", "/word")
        assert done.stdout == "from a SIF file", done.stderr
        assert f"{url}/image.sif is not on this machine: pulling it" in done.stderr
        signed = home.run(f"{url}/image.sif?Signature=hunter2", "--json", "--", "cat", "/word")
        assert signed.stdout == "from a SIF file", signed.stderr
        assert "hunter2" not in signed.stderr
        for name, says in (
            ("other.sif", "not a SIF file"),
            ("short.sif", "lies outside of the file"),
            ("none.sif", "there is no such file"),
        ):
            signed = home.run(f"{url}/{name}?s=hunter2", "--result", str(tmp_path / "result"), "--", "cat")
            assert says in signed.stderr.splitlines()[-1]
            assert json.loads((tmp_path / "result").read_text())["failed"] == "image"
            assert "hunter2" not in signed.stderr + (tmp_path / "result").read_text()
    done = home.run(f"{url}/image.sif", "--", "cat", "/word")
    assert done.stdout == "from a SIF file"  # the server is gone
    assert not [path for path in home.images.glob("names/*") if "hunter2" in path.read_text()]


@contextmanager
def _https(directory: Path, pair: Pair) -> Iterator[str]:
    """Serves a directory over TLS; yields its address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(directory))
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"https://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_whose_failure_it_was(registry: RealRegistry, home: Home, tmp_path: Path) -> None:
    """Each failure is reported in one line. An unusable or missing image is a failure of the image, an
    unreadable password or auth file one of the request."""
    registry.put(image("other", "s390x"), "team/other", "1")
    result = tmp_path / "result"
    at = f"docker://{registry.host}/team"
    for arguments, failed, says in (
        ((f"{at}/none:1",), "image", "team/none:1"),
        ((f"{at}/other:1", "--platform", "linux/amd64"), "image", "s390x"),
        ((f"{at}/kept:1", "--username", "me", "--password-file", "/none/token"), "request", "/none/token"),
        ((f"{at}/kept:1", "--authfile", "/none/auth"), "request", "/none/auth"),
        (("shub://vsoch/hello-world",), "image", "Singularity Hub was closed in 2021"),
        (("docker://A/B/:c",), "image", "A/B"),
    ):
        done = home.run(*arguments, "--plain-http", "--result", str(result), "--", "true")
        lines = done.stderr.splitlines()
        assert len(lines) == 1, lines
        assert says in lines[0]
        found = json.loads(result.read_text())
        assert (found["failed"], found["started"], done.returncode != 0) == (failed, False, True)


def test_another_machines_image_is_said_before_the_start(registry: RealRegistry, home: Home) -> None:
    registry.put(image("other", "s390x"), "team/else", "1")
    done = home.run(f"docker://{registry.host}/team/else:1", "--plain-http")
    assert "s390x" in done.stderr


def test_a_private_image_and_where_its_password_is_not(tmp_path: Path, home: Home) -> None:
    """The password is given in a file, a descriptor or an auth file. It appears in no argument, environment,
    message, result or file of the start."""
    word = PASSWORD
    with real_registry(tmp_path / "registry") as registry:
        registry.push(image("private").write_layout(tmp_path / "layout"), TAG, "team/private:1")
        source = f"docker://{registry.host}/team/private:1"
        (tmp_path / "token").write_text(word)
        (tmp_path / "token").chmod(0o600)
        result = tmp_path / "result"
        look = "cat /word; cat /proc/1/environ /proc/self/environ"
        for number, ways in enumerate(("--password-file", "--password-fd")):
            shutil.rmtree(home.images, ignore_errors=True)
            with open(tmp_path / "token", "rb") as token:
                value = str(tmp_path / "token") if number == 0 else str(token.fileno())
                done = home.run(
                    source,
                    *("--plain-http", "--username", USER, ways, value, "--result", str(result)),
                    *("--", "sh", "-c", look),
                    pass_fds=(token.fileno(),),
                )
            assert done.stdout.startswith("private"), done.stderr
            assert word not in done.stdout + done.stderr + result.read_text()
        (private,) = [path for path in (home.images / "images").iterdir() if path.suffix == ""]
        assert private.stat().st_mode & 0o077 == 0
        assert [
            path
            for path in home.images.rglob("*")
            if path.is_file() and not path.is_symlink() and word.encode() in path.read_bytes()
        ] == []
        done = home.run(f"docker://{registry.host}/team/private:2", "--plain-http", "--", "true")
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_links_are_resolved_once(registry: RealRegistry, home: Home) -> None:
    """A running job keeps its image, although a newer one is pulled and the store is too small for both."""
    registry.put(image("first"), "team/moving", "1")
    source = f"docker://{registry.host}/team/moving:1"
    home.settings.write_text(f'image_store = "{home.images.parent}"\nimage_limit = "17M"\n')
    command = [*LAZYFS, "run", source, "--plain-http", "--", "sh", "-c", "echo ready; cat; cat /word"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=home.environment, text=True
    ) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
        registry.put(image("second"), "team/moving", "1")
        done = home.run(source, "--plain-http", "--pull", "always")
        assert (done.stdout, done.returncode) == ("", 2)
        assert "its limit of 17.0 MiB is too small" in done.stderr
        assert job.communicate("")[0] == "first"
    assert home.run(source, "--plain-http", "--pull", "always").stdout == "second"
