"""`lazyfs prun` with the command lines of ATLAS's documentation, run on this machine and as submit files,
with images from a mount."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.busybox import busybox_root
from tests.support.cli import LAZYFS, lazyfs, mounted, new_repository
from tests.support.grid_proxies import make_proxy
from tests.support.oci_images import Built, entry, layer

HELLO = "--exec \"echo 'Hello World\\!'\" --outDS user.test.test"
ANALYSIS = (
    "--containerImage docker://atlas/analysisbase:21.2.88 --exec ./run.sh --tmpDir /tmp "
    "--outDS user.elmsheus.test.20190928161612 "
    "--inDS mc15_13TeV:mc15_13TeV.423202.Pythia8B_A14_CTEQ6L1_Jpsie3e13.merge.AOD."
    "e3869_s2608_s2183_r6630_r6264 --nFiles 1 "
    "--writeInputToTxt IN:input.txt --disableAutoRetry --noBuild --useSandbox --site ANALY_DESY-HH"
)
DATASET = ANALYSIS.split("--inDS ")[1].split()[0].partition(":")[2]
RUN = """\
#!/bin/sh
list=$(cat input.txt)
echo "$list: $(cat "$list")"
echo "proxy: ${X509_USER_PROXY-none} $(ls /x509 2>/dev/null)"
[ -z "$X509_USER_PROXY" ] || grep -c 'BEGIN.*PRIVATE KEY' "$X509_USER_PROXY"
echo histogram >hist.root
"""
HUB = "docker.io"
"""Docker Hub's folder in a published tree. It is the same for all host names of Docker Hub."""


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("prun")
    names = ("sh", "cat", "ls", "grep", "wc")
    programs = [entry(f"bin/{name}", tarfile.SYMTYPE, linkname="busybox") for name in names]
    busybox = entry("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755)
    built = Built([layer(entry("bin", tarfile.DIRTYPE), busybox, *programs)], config={"Env": ["PATH=/bin"]})
    layout = built.write_layout(directory / "layout")
    store, keys = new_repository(directory, "prun.example")
    for name in ("library/alpine:latest", "library/alpine:3.10.2", "atlas/analysisbase:21.2.88"):
        lazyfs("publish", f"oci:{layout}", store, "--as", f"{HUB}/{name}", "--keys", keys)
    options = ("--cache", directory / "cache", "--trust", store / "metadata/1.root.json")
    with mounted(store, directory / "mnt", *options) as point:
        yield point


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Changes to a new working directory and returns it. It has the analysis and its dataset, as `rucio
    download` leaves them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("X509_USER_PROXY", raising=False)
    (tmp_path / "run.sh").write_text(RUN)
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / DATASET).mkdir()
    for number in (2, 1):
        (tmp_path / DATASET / f"AOD.{number}.root").write_text(f"events {number}\n")
    return tmp_path


def prun(line: str, *more: str) -> subprocess.CompletedProcess[str]:
    return lazyfs("prun", *shlex.split(line), *more, check=False)


def test_hello_world_is_the_same_from_the_registrys_name_and_from_the_path(mount: Path, work: Path) -> None:
    path = f"{mount}/{HUB}/library/alpine:3.10.2"
    outputs = []
    for number, image in enumerate(
        ("docker://alpine", "registry.hub.docker.com/library/alpine:3.10.2", path)
    ):
        done = prun(f"--containerImage {image} {HELLO}.{number}")
        assert (done.returncode, done.stderr) == (0, "")
        outputs.append((work / f"user.test.test.{number}/stdout").read_text())
        assert outputs[-1] == done.stdout
        assert json.loads((work / f"user.test.test.{number}/result.json").read_text())["failure"] is None
    assert outputs == ["Hello World\\!\n"] * 3


def test_an_analysis_of_a_dataset(mount: Path, work: Path) -> None:
    done = prun(ANALYSIS, "--outputs", "*.root")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "AOD.1.root: events 1\nproxy: none \n"
    assert "passed over, since they concern the grid: --site, --tmpDir, --disableAutoRetry" in done.stderr
    results = work / "user.elmsheus.test.20190928161612"
    # a link to the dataset's file is an output by its name, and leads to nothing here
    assert (results / "hist.root").read_text() == "histogram\n"
    assert not (results / "run.sh").exists()


def test_a_proxy_goes_in_only_when_it_is_asked_for(
    mount: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = make_proxy(work / "proxy")
    monkeypatch.setenv("X509_USER_PROXY", str(proxy))
    monkeypatch.setenv("X509_CERT_DIR", str(work / "none"))
    assert "proxy: none \n" in prun(ANALYSIS).stdout
    done = prun(ANALYSIS.replace("20190928161612", "2"), "--containerX509")
    assert done.stdout.splitlines()[1:] == ["proxy: /x509/proxy proxy", "1"]
    assert "PRIVATE KEY" not in "".join(
        path.read_text() for path in (work / "user.elmsheus.test.2").iterdir() if path.is_file()
    )


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("none", "No such file or directory; make one with voms-proxy-init"),
        ("open", "must be a file of your own that nobody else can read"),
        ("directory", "must be a file of your own that nobody else can read"),
        ("expired", "expired at "),
        ("text", "holds no certificate"),
    ],
)
def test_a_proxy_that_cannot_serve_is_refused(
    work: Path, monkeypatch: pytest.MonkeyPatch, state: str, says: str
) -> None:
    proxy = work / "proxy"
    monkeypatch.setenv("X509_USER_PROXY", str(proxy))
    if state in ("open", "expired"):
        make_proxy(proxy, -1 if state == "expired" else 12)
    if state == "open":
        proxy.chmod(0o640)
    if state == "directory":
        proxy.mkdir(mode=0o700)
    if state == "text":
        proxy.write_text("hello")
        proxy.chmod(0o600)
    done = prun(f"--containerImage /usr {HELLO} --containerX509")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"grid proxy {proxy}: " in done.stderr
    assert says in done.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--inDS data18:none", "--inDS data18:none: is not here; fetch it first: rucio download data18:none"),
        ("--outDS run.sh", "run.sh exists already; take another name"),
        ("--writeInputToTxt IN:x", "--writeInputToTxt lists the files of --inDS: give it"),
        (f"--inDS {DATASET} --writeInputToTxt OUT:x", "write IN:FILE"),
        (f"--inDS {DATASET} --writeInputToTxt IN:../x", "write IN:FILE"),
        (f"--inDS {DATASET} --writeInputToTxt IN:..", "write IN:FILE"),
        (
            f"--inDS {DATASET} --writeInputToTxt IN:AOD.1.root",
            "--writeInputToTxt IN:AOD.1.root: --inDS has a file of this name; choose another",
        ),
        (
            f"--inDS {DATASET} --writeInputToTxt IN:exec.sh --submit htcondor --outDS out",
            "--writeInputToTxt IN:exec.sh: the job's directory has a file of this name",
        ),
        ("--inDS . --useSandbox", "file of the job run.sh: another file of the job has its name; rename one"),
        ("--outDS /proc/x --outputs x", "--outDS /proc/x: No such file or directory"),
        ("--outDS run.sh/x", "/run.sh/x: Not a directory"),
        ("--outDS /", "--outDS /: / exists already"),
        ("--outputs x", "--outputs come out into a directory: give it with --outDS"),
        ("--outputs ../x --outDS out", "output '../x' leads out of the job's directory"),
        ("--submit slurm", "give their directory with --outDS"),
        ("--submit slurm --outDS a%b", "has a character that submit files take for their own"),
        ("--submit htcondor --outDS a,b", "has a character that submit files take for their own"),
        ("--submit htcondor --outDS 'a$(b)'", "has a character that submit files take for their own"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(work: Path, line: str, says: str) -> None:
    before = sorted(os.listdir(work))
    done = prun(f"--containerImage /usr --exec true {line}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert says in done.stderr
    assert sorted(os.listdir(work)) == before


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return busybox_root(tmp_path / ".image", "sh", "ln", "mkdir", "cat", "ls")


def test_the_result_follows_no_link_of_the_program(image: Path, work: Path) -> None:
    (work / "victim").write_text("precious")
    done = prun(
        f"--containerImage {image} --outDS out --outputs '*' "
        f"--exec 'ln -s {work}/victim result.json; ln -s {work}/victim stdout; echo ok >a.root; exit 4'"
    )
    assert (done.returncode, (work / "victim").read_text()) == (4, "precious")
    result = json.loads((work / "out/result.json").read_text())
    assert (result["exit_code"], set(result["outputs"])) == (4, {"a.root"})
    assert set(result["uncopied"]) == {"result.json", "stdout"}
    assert os.readlink(f"{result['kept']}/result.json") == f"{work}/victim"
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "lazyfs: output 'result.json' cannot be copied: a file of lazyfs's own has this name; "
    )
    assert line.endswith(f"; the job's files are kept in {result['kept']}")
    shutil.rmtree(Path(result["kept"]).parent)


@pytest.mark.parametrize(
    ("program", "outputs", "names"),
    [
        ("ln -s x a.root; echo b >b.root", "*.root,a.root", {"a.root", "b.root"}),
        ("mkdir d; ln -s x d/l", "*,d", {"d"}),
        ("ln -s . c; ln -s . e; echo a >a.root", "**/*.root", {"a.root"}),
    ],
)
def test_each_output_comes_out_once(
    image: Path, work: Path, program: str, outputs: str, names: set[str]
) -> None:
    done = prun(f"--containerImage {image} --outDS out --outputs '{outputs}' --exec '{program}'")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert set(json.loads((work / "out/result.json").read_text())["outputs"]) == names


def test_outputs_that_were_not_copied_are_no_success(image: Path, work: Path) -> None:
    done = prun(
        f"--containerImage {image} --outDS out --outputs stdout --exec 'echo mine >stdout; echo said'"
    )
    result = json.loads((work / "out/result.json").read_text())
    assert (done.returncode, done.stdout, result["exit_code"]) == (2, "said\n", 0)
    assert Path(result["kept"], "stdout").read_text() == "mine\n"
    shutil.rmtree(Path(result["kept"]).parent)


def test_a_result_is_kept_although_nobody_reads_the_output(image: Path, work: Path) -> None:
    line = f"prun --containerImage {image} --outDS out --exec 'echo said; exit 3'"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as closed:
        subprocess.run([*LAZYFS, *shlex.split(line)], stdout=closed, timeout=60, check=False)
    assert json.loads((work / "out/result.json").read_text())["exit_code"] == 3


def test_a_dataset_with_a_comma_in_its_name(image: Path, work: Path) -> None:
    (work / "a,required").mkdir()
    (work / "a,required/file").write_text("data\n")
    done = prun(f"--containerImage {image} --inDS a,required --exec 'cat file; ls /input'")
    assert (done.returncode, done.stdout, done.stderr) == (0, "data\nfile\n", "")


def test_a_new_list_of_inputs_takes_the_place_of_an_old_one(image: Path, work: Path) -> None:
    (work / "input.txt").write_text("of a run without prun\n")
    line = f"--containerImage {image} --inDS {DATASET} --nFiles 1 --writeInputToTxt IN:input.txt --useSandbox"
    done = prun(f"{line} --exec 'cat input.txt'")
    assert (done.returncode, done.stdout, done.stderr) == (0, "AOD.1.root\n", "")
    prun(f"{line} --exec 'cat input.txt' --submit slurm --outDS out")
    assert (work / "out/work/input.txt").read_text() == "AOD.1.root\n"


def test_large_files_stay_unless_they_are_named(mount: Path, work: Path) -> None:
    with open(work / "large.bin", "wb") as file:
        file.truncate((10 << 20) + 1)
    (work / ".hidden").touch()
    line = "--containerImage docker://alpine --exec 'ls -a; ls -l large.bin | wc -l' --useSandbox"
    done = prun(line)
    assert "not carried in, since large (--extFile does): large.bin" in done.stderr
    assert done.stdout.splitlines() == [".", "..", DATASET, "run.sh", "0"]
    done = prun("--containerImage docker://alpine --exec 'ls' --extFile 'large.*,run.sh'")
    assert (done.stdout.split(), done.stderr) == (["large.bin", "run.sh"], "")


def test_htcondors_submit_file(mount: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X509_USER_PROXY", str(make_proxy(work / ".proxy")))
    resources = "--nCore 4 --memory 2000 --maxWalltime 2 --outputs hist.root,log.txt"
    done = prun(f"{ANALYSIS} {resources} --submit htcondor --containerX509")
    out = f"{work}/user.elmsheus.test.20190928161612"
    assert done.stdout == f"condor_submit {out}/job.sub\n"
    image = mount / HUB / "atlas/analysisbase:21.2.88"
    expected = {
        "universe": "container",
        "container_image": str(image.resolve()),
        "transfer_container": "false",
        "JobBatchName": "user.elmsheus.test.20190928161612",
        "initialdir": out,
        "executable": f"{out}/exec.sh",
        "transfer_input_files": f"{work}/{DATASET},{work}/run.sh,{out}/input.txt,{work}/{DATASET}/AOD.1.root",
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_output_files": "hist.root,log.txt",
        "output": "stdout",
        "error": "stderr",
        "log": "log",
        "x509userproxy": f"{work}/.proxy",
        "request_cpus": "4",
        "request_memory": "2000 MB",
        "allowed_execute_duration": "7200",
    }
    *lines, queue = Path(f"{out}/job.sub").read_text().splitlines()
    pairs = [line.partition(" = ")[::2] for line in lines]
    assert {name.strip(): value for name, value in pairs} == expected
    assert queue == "queue"
    assert Path(f"{out}/exec.sh").read_text() == "#!/bin/sh\n./run.sh\n"
    assert Path(f"{out}/exec.sh").stat().st_mode & 0o777 == 0o755
    assert Path(f"{out}/input.txt").read_text() == "AOD.1.root\n"


def test_a_reference_that_no_tree_has_is_left_to_the_nodes(work: Path) -> None:
    done = prun("--containerImage docker://none/none:1 --exec true --outDS out --submit htcondor")
    assert done.returncode == 0
    assert "the nodes are told docker://none/none:1 as it is" in done.stderr
    text = (work / "out/job.sub").read_text()
    assert "container_image          = docker://none/none:1\n" in text
    assert "transfer_container" not in text


def test_slurms_script_runs(mount: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the script under bash, with the two things that it expects on a node: `lazyfs` on PATH, and the
    mount."""
    monkeypatch.setenv("X509_USER_PROXY", str(make_proxy(work / ".proxy")))
    done = prun(f"{ANALYSIS} --nCore 4 --memory 2000 --maxWalltime 2 --submit slurm --containerX509")
    out = f"{work}/user.elmsheus.test.20190928161612"
    assert done.stdout == f"sbatch {out}/job.sh\n"
    lines = Path(f"{out}/job.sh").read_text().splitlines()
    assert lines[:9] == [
        "#!/bin/bash",
        "#SBATCH --job-name=user.elmsheus.test.20190928161612",
        f"#SBATCH --output={out}/stdout",
        f"#SBATCH --error={out}/stderr",
        f"#SBATCH --chdir={out}/work",
        "#SBATCH --ntasks=1",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=2000M",
        "#SBATCH --time=120",
    ]
    assert "PRIVATE" not in Path(f"{out}/job.sh").read_text()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", f"{out}/job.sh"],
        cwd=f"{out}/work",
        env={"PATH": path, "HOME": str(work)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == ["AOD.1.root: events 1", "proxy: /x509/proxy proxy", "1"]
    assert Path(f"{out}/work/hist.root").read_text() == "histogram\n"
    assert json.loads(Path(f"{out}/result.json").read_text())["failed"] is None
