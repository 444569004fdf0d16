"""Images that are given neither by a name nor by a path in a mount: SIF files, references in registries."""

import subprocess
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import prepare
from lazyfs.runtimes.image_reference import is_sif, looked_up
from tests.support.busybox import busybox_root
from tests.support.open_paths import open_to_all
from tests.support.runtimes import NOBODY, apptainer_prefix, run


@pytest.fixture(scope="module")
def sif(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds a SIF file of busybox with apptainer."""
    work = tmp_path_factory.mktemp("sif")
    root = busybox_root(work / "root", "sh", "cat", "ls")
    program = str(apptainer_prefix() / "usr/bin/apptainer")
    subprocess.run([program, "--silent", "build", str(work / "image.sif"), str(root)], check=True)
    open_to_all(work)
    return work / "image.sif"


@pytest.mark.root
@pytest.mark.parametrize("user", [None, NOBODY], ids=["root", "user"])
def test_a_sif_file_is_run_with_what_a_job_needs(sif: Path, tmp_path: Path, user: int | None) -> None:
    open_to_all(tmp_path)
    (tmp_path / "work").mkdir()
    (tmp_path / "work").chmod(0o777)
    (tmp_path / "wallet").write_text("a wallet\n")
    script = "cat; cat /etc/oracle/wallet; pwd; echo $A >out; exit 4"
    options = ["--work", f"{tmp_path}/work:/work_dir", "-B", f"{tmp_path}/wallet:/etc/oracle/wallet:ro"]
    done = run([sif, *options, "--env", "A=1", "--", "sh", "-c", script], user=user, given="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (4, "in\na wallet\n/work_dir\n", "")
    assert (tmp_path / "work/out").read_text() == "1\n"


@pytest.mark.root
def test_a_sif_file_needs_apptainer(sif: Path) -> None:
    done = run([sif, "--runtime", "crun", "--", "sh"])
    assert (done.returncode, "crun: only apptainer starts SIF files" in done.stderr) == (2, True)
    assert is_sif(str(sif))
    assert not is_sif("/bin/busybox")


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("shub://vsoch/hello-world", "Singularity Hub was closed in 2021"),
        ("https://example.org/image.sif", "take the SIF file"),
        ("library://sylabsed/examples/lolcow", "take the SIF file"),
        ("oci:./layout:latest", "`lazyfs publish oci:./layout:latest STORE` puts it into a repository"),
        ("http://example.org/image.sif", "anybody on the way could change it"),
        ("/bin/busybox", "/bin/busybox: no such directory, and no SIF file"),
    ],
)
def test_what_is_not_pulled_is_refused_with_a_remedy(image: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        prepare(image, ("sh",))


def test_a_reference_is_looked_up_by_its_name() -> None:
    assert looked_up("docker://gitlab.example/a/b:1") == "gitlab.example/a/b:1"
    with pytest.raises(
        UsageError, match=r"it is not pulled now .*: `lazyfs publish docker://none\.example/a:1 STORE`"
    ):
        prepare("docker://none.example/a:1", ("sh",))
