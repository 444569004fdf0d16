"""The options --nv and --rocm: lazyfs passes them on to runtimes that have such options, and binds the GPU's
devices and libraries for all others."""

import os
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.apptainer import Apptainer
from lazyfs.runtimes.container_options import parse_options
from lazyfs.runtimes.docker import Docker
from lazyfs.runtimes.gpus import chosen_gpus, with_gpus
from lazyfs.runtimes.launch import Bind, Launch
from lazyfs.runtimes.settings import parse_settings
from tests.support.busybox import busybox_root
from tests.support.open_paths import open_to_all
from tests.support.runtimes import NOBODY, run, search_path


@pytest.fixture
def machine(open_path: Path) -> Path:
    """Makes a small image, and a stand-in for nvidia-container-cli that lists a device, a library of the
    driver, a tool and a file. Returns the directory that contains them."""
    libraries = open_path / "driver"
    libraries.mkdir()
    (libraries / "libcuda.so.535.54").write_text("the driver\n")
    (libraries / "libcuda.so.1").symlink_to("libcuda.so.535.54")
    (libraries / "libcuda.so").symlink_to("libcuda.so.1")
    (libraries / "libcudart.so.1").write_text("another library\n")
    (libraries / "nvidia-smi").write_text("#!/bin/sh\necho tool\n")
    (libraries / "nvidia-smi").chmod(0o755)
    (libraries / "gsp.bin").write_text("firmware\n")
    (open_path / "bin").mkdir()
    program = open_path / "bin/nvidia-container-cli"
    names = [libraries / name for name in ("libcuda.so.535.54", "nvidia-smi", "gsp.bin", "gone.so.1")]
    listed = "\n".join(map(str, ["/dev/full", *names]))
    program.write_text(f'#!/bin/sh\n[ "$*" = list ] || exit 9\ncat <<END\n{listed}\nEND\n')
    program.chmod(0o755)
    root = busybox_root(open_path / "image", "sh", "cat", "ls", "echo")
    open_to_all(root)
    return open_path


@pytest.mark.root
@pytest.mark.parametrize(("runtime", "user"), [("bubblewrap", None), ("crun", NOBODY), ("podman", None)])
def test_a_program_finds_the_driver_and_its_own_gpu(machine: Path, runtime: str, user: int | None) -> None:
    script = (
        "cat $LD_LIBRARY_PATH/libcuda.so.1 $LD_LIBRARY_PATH/libcuda.so; ls $LD_LIBRARY_PATH; echo $PATH; "
        f"nvidia-smi; cat {machine}/driver/gsp.bin; echo x >/dev/full; echo $CUDA_VISIBLE_DEVICES"
    )
    environment = {"PATH": f"{machine}/bin:{search_path()}", "CUDA_VISIBLE_DEVICES": "2"}
    done = run(
        [machine / "image", "--runtime", runtime, "--nv", "--", "sh", "-c", script],
        user=user,
        environment=environment,
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == ["the driver"] * 2, done.stderr
    assert lines[2:5] == ["libcuda.so", "libcuda.so.1", "libcuda.so.535.54"]
    assert lines[5].endswith(":/.lazyfs-gpu/bin")
    assert lines[6:] == ["tool", "firmware", "2"]
    assert "No space left on device" in done.stderr  # the device is one
    without = run(
        [machine / "image", "--runtime", runtime, "--", "sh", "-c", "ls -A /; echo $CUDA_VISIBLE_DEVICES"]
    )
    assert ".lazyfs-gpu" not in without.stdout
    assert "2" not in without.stdout.splitlines()[-1]


@pytest.mark.root
def test_a_machine_without_a_gpu_is_one_line(machine: Path) -> None:
    for option, says in (("--nv", "nvidia-container-cli is not on PATH"), ("--rocm", "no AMD GPU")):
        done = run([machine / "image", "--runtime", "bubblewrap", option, "--", "true"])
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert says in done.stderr


def test_a_program_that_fails_says_why(machine: Path) -> None:
    program = machine / "bin/nvidia-container-cli"
    program.write_text(
        "#!/bin/sh\necho 'nvidia-container-cli: initialization error: nvml error' >&2; exit 1\n"
    )
    with pytest.raises(UsageError, match="initialization error: nvml error"):
        with_gpus(Launch(str(machine / "image"), ("sh",), gpus=("nv",)), str(program))


def test_what_the_caller_has_bound_stays(machine: Path) -> None:
    own = Bind("/dev/null", "/dev/full")
    launch = Launch(str(machine / "image"), ("sh",), {"LD_LIBRARY_PATH": "/own"}, binds=(own,), gpus=("nv",))
    found = with_gpus(launch, str(machine / "bin/nvidia-container-cli"))
    assert [bind for bind in found.binds if bind.target == "/dev/full"] == [own]
    assert found.environment["LD_LIBRARY_PATH"] == "/own:/.lazyfs-gpu/lib"
    assert found.gpus == ()


def test_runtimes_that_know_gpus_are_told(machine: Path) -> None:
    launch = Launch(
        str(machine / "image"), ("sh",), {"HOME": "/"}, gpus=("nv", "rocm"), scratch="/tmp/lazyfs-run-0"
    )
    options = Apptainer().plan(launch).options
    assert options.index("--nv") < options.index("--rocm") < options.index(str(machine / "image"))
    with pytest.raises(UsageError, match="docker knows no GPUs of AMD"):
        Docker().plan(launch)


def test_only_the_variables_that_choose_gpus_are_handed_on() -> None:
    callers = {"CUDA_VISIBLE_DEVICES": "1", "ROCR_VISIBLE_DEVICES": "0", "CUDA_HOME": "/x"}
    assert chosen_gpus(("nv",), callers) == {"CUDA_VISIBLE_DEVICES": "1", "ROCR_VISIBLE_DEVICES": "0"}
    assert chosen_gpus((), callers) == {}


def test_atlas_asks_for_gpus_in_its_own_notation() -> None:
    assert parse_options("-B /mnt/lustre_2 --nv") == ["--bind", "/mnt/lustre_2", "--nv"]
    settings = parse_settings(b'container_options = "-B /mnt/lustre_2 --nv"', "run.toml")
    assert settings.gpus == ("nv",)
    assert [bind.source for bind in settings.binds] == ["/mnt/lustre_2"]
    assert not os.path.exists("/dev/nvidiactl")
