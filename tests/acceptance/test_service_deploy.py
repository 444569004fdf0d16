"""The GitLab template and the container recipe of tools/service, run for real."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.debian import root_filesystem
from tests.support.gitlab_project import Project
from tests.support.registry import real_registry
from tests.support.service_templates import TEMPLATES, Machine

ROOT = Path(__file__).parents[2]
OF_THE_MACHINE = (
    "/etc/apt/sources.list.d", "/etc/apt/apt.conf.d", "/etc/pip.conf", "/etc/ssl/certs",
    "/usr/local/share/ca-certificates",
)  # fmt: skip
"""Files by which this machine reaches its package registries. They are no part of the recipe."""
pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with real_registry(tmp_path / "registry", accounts_needed=False) as registry:
        yield Machine(tmp_path / "machine", registry)


def test_the_gitlab_template(machine: Machine) -> None:
    project = Project(machine)
    synced = project.job("sync-wishlists")
    assert synced.returncode == 0, synced.stdout + synced.stderr
    assert machine.published()
    good = project.job("check-wishlists")
    assert good.returncode == 0, good.stdout + good.stderr

    listed = project.path / "wishlists/physics.yaml"
    listed.write_text(listed.read_text() + "  - no image at all\n")
    before = project.commit()
    refused = project.job("check-wishlists")
    assert refused.returncode != 0
    assert b"physics.yaml:4: 'no image at all'" in refused.stdout + refused.stderr
    (issue,) = json.loads((project.path / "code-quality.json").read_text())
    assert issue["location"] == {"path": "wishlists/physics.yaml", "lines": {"begin": 4}}

    (project.path / "wishlists/other.yaml").write_text("lazyfs: 1\nimages:\n  - a.example/b:1\n")
    since = project.commit()
    assert since != before
    unchanged = project.job("check-wishlists", CI_MERGE_REQUEST_DIFF_BASE_SHA=since)
    assert unchanged.returncode == 0, "the old mistake is none of this merge request"

    failed = project.job("sync-wishlists")
    assert failed.returncode == 0, "a pipeline with images that fail is yellow"
    assert b"a.example/b:1" in failed.stdout


def test_the_container(machine: Machine, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    store = ["--root", str(tmp_path / "containers"), "--runroot", str(tmp_path / "run")]
    store += ["--storage-driver", "vfs"]

    def buildah(*arguments: str) -> str:
        done = subprocess.run(
            ["buildah", *store, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
            timeout=1200,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    base = buildah("from", "scratch")
    buildah("copy", base, str(root_filesystem()), "/")
    for name in filter(os.path.exists, OF_THE_MACHINE):
        buildah("copy", base, name, name)
    buildah("commit", "--rm", base, "localhost/debian")
    made = ["bud", "--isolation", "chroot", "--network", "host", "--pull-never", "--build-arg"]
    made += ["BASE=localhost/debian", "-f", str(TEMPLATES / "Containerfile"), "-t", "lazyfs", str(ROOT)]
    buildah(*made)

    os.chmod(tmp_path, 0o711)
    for path in [machine.directory, *machine.directory.rglob("*")]:
        os.chown(path, 1000, 1000)  # the account of the recipe
    container = buildah("from", "--pull-never", "localhost/lazyfs")
    volumes = [f"--volume={machine.directory}:{machine.directory}"]
    started = ["run", "--isolation", "chroot", "--network", "host", *volumes, container, "--", "lazyfs"]
    assert buildah(*started, "--version").startswith("lazyfs")
    said = buildah(
        *started, "sync", str(machine.wishlists), str(machine.store), "--keys", str(machine.keys),
        "--config", str(machine.config), "--status-dir", str(machine.status),
    )  # fmt: skip
    assert "1 published" in said
    assert machine.published()
    assert {path.stat().st_uid for path in machine.store.rglob("*")} == {1000}
