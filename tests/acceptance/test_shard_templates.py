"""Images converted on many machines by the templates of tools/service: parallel jobs of GitLab, an array of
Slurm jobs, and HTCondor's own reading of its submit file."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.repository.collection_state import read_state
from lazyfs.store import open_store
from tests.support.gitlab_project import Project
from tests.support.htcondor import read_jobs
from tests.support.many_images import IMAGES, assert_each_layer_read_once, put_images
from tests.support.registry import RealRegistry, real_registry
from tests.support.service_templates import TEMPLATES, Machine
from tests.support.slurm import one_node_slurm

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(600)]
SHARDS = 4


def machine(directory: Path, registry: RealRegistry) -> Machine:
    """Returns the folders of a service. The registry has images that share layers, and the wishlist names all
    of them."""
    made = Machine(directory, registry)
    put_images(registry)
    images = "".join(f"  - registry.example.org/team/app{number}:1\n" for number in range(IMAGES))
    (made.wishlists / "physics.yaml").write_text(f"lazyfs: 1\nimages:\n{images}")
    registry.blobs_read()
    return made


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    with real_registry(tmp_path / "registry", accounts_needed=False) as registry:
        yield registry


def assert_converted_by_shards(machine: Machine, registry: RealRegistry, said: str) -> None:
    """Asserts by the commands' output and the store: the shards converted all images and read each layer
    once, one revision contains all images, the following sync changed nothing, and the plan's lease has
    ended."""
    reports = re.findall(rf"shard (\d) of {SHARDS}: \d+ converted, 0 failed", said)
    assert sorted(reports) == [str(number + 1) for number in range(SHARDS)]
    assert f"revision 2: {IMAGES} committed, 0 missing\n" in said
    assert f"revision 2: {IMAGES} unchanged, 0 published, 0 moved, 0 removed, 0 failed, 0 waiting\n" in said
    assert_each_layer_read_once(registry)
    assert read_state(open_store(str(machine.store))).leases == ()
    machine.lazyfs("check", machine.store)


def test_parallel_jobs_of_gitlab(registry: RealRegistry, tmp_path: Path) -> None:
    made = machine(tmp_path / "machine", registry)
    done = Project(made, "gitlab-ci-shards.yml").job()
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.sub(r"^\S+ +> ", "", (done.stdout + done.stderr).decode(), flags=re.MULTILINE)
    assert_converted_by_shards(made, registry, said)


def test_an_array_of_slurm_jobs(registry: RealRegistry, tmp_path: Path) -> None:
    made = machine(tmp_path / "machine", registry)
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    with one_node_slurm() as slurm:
        environment = {
            **made.environment,
            "SLURM_CONF": slurm.environment["SLURM_CONF"],
            "LAZYFS_WISHLISTS": str(made.wishlists),
            "LAZYFS_STORE": str(made.store),
            "LAZYFS_CONFIG": str(made.config),
            "LAZYFS_STATUS": str(made.status),
            "LAZYFS_PLAN": str(tmp_path / "plan.json"),
        }
        done = subprocess.run(
            [TEMPLATES / "slurm-shards", str(SHARDS), "--mem=800"],
            env=environment,
            cwd=jobs,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    said = "".join(path.read_text() for path in jobs.glob("slurm-*.out"))
    assert done.returncode == 0, done.stdout + done.stderr + said
    assert len(list(jobs.glob("slurm-*_*.out"))) == SHARDS
    assert_converted_by_shards(made, registry, done.stdout + done.stderr + said)


def test_htcondor_makes_one_job_for_each_shard(tmp_path: Path) -> None:
    text = (TEMPLATES / "htcondor-shards.sub").read_text()
    assert text.splitlines()[-1] == "queue $(shards)"
    names = ("Cmd", "Args", "Arguments", "TransferInput", "Out", "ProcId")
    for given, shards, store in (("", 4, "s3://unpacked/images"), ("shards=8\nstore=/a/b\n", 8, "/a/b")):
        jobs = read_jobs(given + text, shards, names, tmp_path)  # as condor_submit takes NAME=VALUE
        assert len(jobs) == shards
        for number, job in enumerate(jobs):
            words = (
                f"convert plan.json --shard {number + 1}/{shards} {store} --config /etc/lazyfs/service.toml"
            )
            assert job["Cmd"] == "/usr/local/bin/lazyfs"
            assert words in (job["Args"], job["Arguments"])
            assert job["TransferInput"] == "plan.json"
            assert (job["Out"], job["ProcId"]) == (f"convert.{number}.out", str(number))
