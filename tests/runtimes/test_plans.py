"""No text of an image or caller becomes an option of a runtime, a second line, or another variable."""

import json
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.launch import Bind, Launch
from lazyfs.runtimes.protocol import Runtime, RuntimePlan, Unfit
from lazyfs.runtimes.registry import BUILT_IN, load

ENCLOSED = [name for name in BUILT_IN if name not in ("bubblewrap", "docker", "udocker", "shifter")]
SCRATCH = "/tmp/lazyfs-run-0"
HOSTILE = [
    "--help",
    "-x",
    "--",
    "a\nLD_PRELOAD=/x",
    "$(id)",
    "'\"\\",
    "'quoted'",
    "'",
    "{status}",
    "x:y,z",
    "\r",
    "\udcff",
    "",
    "=",
    "%n",
]
TEXTS = st.one_of(
    st.sampled_from(HOSTILE), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
)
NAMES = TEXTS.filter(lambda text: text != "" and "=" not in text)
PATHS = st.lists(TEXTS.filter(lambda text: text not in ("", ".", "..") and "/" not in text), min_size=1).map(
    lambda names: "/" + "/".join(names)
)


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="lazyfs-plan-") as root:
        (Path(root) / "bin").mkdir()
        (Path(root) / "bin/sh").touch(mode=0o755)
        yield root


def planned(runtime: Runtime, launch: Launch) -> RuntimePlan | None:
    try:
        return runtime.plan(launch)
    except (Unfit, UsageError):
        return None


@pytest.mark.parametrize("name", ENCLOSED)
@settings(max_examples=60)
@given(
    arguments=st.lists(TEXTS, max_size=3), variables=st.dictionaries(NAMES, TEXTS, max_size=3), workdir=PATHS
)
def test_texts_stay_texts(
    image: str, name: str, arguments: list[str], variables: dict[str, str], workdir: str
) -> None:
    (runtime,) = load([name], {})
    command = ("sh", *arguments)
    environment = {"HOME": "/tmp", **variables}
    plain = runtime.plan(Launch(image, ("sh",), {"HOME": "/tmp"}, scratch=SCRATCH, as_root=True))
    plan = planned(runtime, Launch(image, command, environment, workdir, scratch=SCRATCH, as_root=True))
    if plan is None:
        return
    assert len(plan.options) == len(plain.options)
    for ours, theirs in zip(plain.options, plan.options, strict=True):
        if ours != theirs:  # the working directory, alone or as the value of its option
            assert theirs in (workdir, f"--cd={workdir}", f"--chdir={workdir}", f"--workdir={workdir}") or (
                theirs == f"--home={SCRATCH}/temporary:{environment['HOME']}"
            )
    assert plan.enclosure is not None
    files = plan.enclosure.files
    if name in ("crun", "runc"):
        process = json.loads(files["bundle/config.json"])["process"]
        assert process["args"] == list(command)
        assert process["env"] == [f"{key}={value}" for key, value in environment.items()]
        return
    assert plan.command == command
    if name in ("charliecloud", "podman"):
        *lines, end = files["environment"].decode(errors="surrogateescape").split("\n")
        given = [line.split("=", 1) for line in lines]
        if name == "charliecloud":  # ch-run removes one pair of single quotes
            given = [[key, value[1:-1] if re.fullmatch("'.*'", value) else value] for key, value in given]
        assert (given, end) == ([[key, value] for key, value in environment.items()], "")
    elif name == "systemd-nspawn":
        content = files["/run/systemd/nspawn/lazyfs.nspawn"].decode(errors="surrogateescape")
        head, *rest, end = content.split("\n")
        assert (head, end, len(rest)) == ("[Exec]", "", len(environment))
        assert [shlex.split(line.removeprefix("Environment=")) for line in rest] == [
            [f"{key}={value}"] for key, value in environment.items()
        ]
    else:
        given_on = {key: value for key, value in environment.items() if key != "HOME"}
        handed = plan.enclosure.environment
        assert {f"APPTAINERENV_{key}": value for key, value in given_on.items()}.items() <= handed.items()
        assert not set(variables) & (
            set(handed) - {f"APPTAINERENV_{key}" for key in variables} - {"PATH", "HOME", "TMPDIR"}
        )


@pytest.mark.parametrize("name", ENCLOSED)
@settings(max_examples=60)
@given(target=PATHS)
def test_a_bind_is_one_bind(image: str, name: str, target: str) -> None:
    (runtime,) = load([name], {})
    try:
        bind = Bind("/usr", target, True)
    except UsageError:
        return
    plan = planned(runtime, Launch(image, ("sh",), {}, binds=(bind,), scratch=SCRATCH, as_root=True))
    if plan is None:
        return
    assert plan.enclosure is not None
    assert plan.enclosure.sources[0][:3] == ("/usr", "binds/0", True)
    if name in ("crun", "runc"):
        mounts = json.loads(plan.enclosure.files["bundle/config.json"])["mounts"]
        (found,) = [mount for mount in mounts if mount["source"] == f"{SCRATCH}/binds/0"]
        assert found["destination"] == target
        assert "ro" in found["options"]
    else:
        (option,) = [option for option in plan.options if f"{SCRATCH}/binds/0" in option]
        assert f"{SCRATCH}/binds/0:{target}" in option
        assert not set(target) & set(':,"\\\n')


@pytest.mark.parametrize("turned", [False, True])
def test_binds_of_a_sif_file_are_mounted_outer_ones_first(tmp_path: Path, turned: bool) -> None:
    """The caller's /etc/hosts is not covered by the machine's."""
    sif = tmp_path / "image.sif"
    sif.touch()
    binds = (Bind("/usr", "/data/in"), Bind(str(tmp_path), "/data"), Bind(str(sif), "/etc/hosts"))
    (runtime,) = load(["apptainer"], {})
    launch = Launch(
        str(sif), ("sh",), {}, binds=binds[::-1] if turned else binds, scratch=SCRATCH, as_root=True
    )
    options = runtime.plan(launch).options
    targets = [word.split(":")[1] for word in options if word.startswith(f"{SCRATCH}/binds/")]
    assert [target for target in targets if target.startswith("/data")] == ["/data", "/data/in"]
    assert targets.count("/etc/hosts") == 1
    with pytest.raises(UsageError, match="one would cover the other"):
        runtime.plan(launch._replace(binds=(*binds, Bind("/usr", "/data"))))


@pytest.mark.parametrize("name", ENCLOSED)
def test_text_that_is_no_utf_8_is_passed_or_refused(image: str, name: str) -> None:
    """Go and JSON would replace a byte that is not UTF-8 by U+FFFD. systemd would drop the whole line."""
    (runtime,) = load([name], {})
    for launch in (
        Launch(image, ("sh", "\udcff"), scratch=SCRATCH, as_root=True),
        Launch(image, ("sh",), {"A": "hunter2\udcff"}, scratch=SCRATCH, as_root=True),
        Launch(image, ("sh",), binds=(Bind("/usr", "/\udcff"),), scratch=SCRATCH, as_root=True),
    ):
        if name == "charliecloud":
            assert runtime.plan(launch).command == launch.command
        else:
            with pytest.raises(Unfit, match="is not UTF-8") as caught:
                runtime.plan(launch)
            assert "hunter2" not in str(caught.value)
