"""The templates of tools/service that convert on many machines, with a stand-in for the command lazyfs, which
logs its arguments. tests/acceptance/test_shard_templates.py runs them for real."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.service_templates import TEMPLATES

SHARDS = 4
SBATCH = """#!/bin/bash
echo "sbatch $1 $2 $3" >>"$CALLS"
for task in $(seq 1 "${2#--array=1-}"); do
    SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=${2#--array=1-} bash "${@: -1}"
done
exit 1  # some images waited for other shards
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """Returns a function that runs a command, in which lazyfs and sbatch are stand-ins that log their calls.
    It returns the exit code and these calls. The subcommands of lazyfs that match the shell pattern `failing`
    exit with `code`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "lazyfs").write_text(
        '#!/bin/sh\necho "$*" >>"$CALLS"\ncase "$1" in $FAILING) exit "$CODE";; esac\n'
    )
    (programs / "sbatch").write_text(SBATCH)
    for program in programs.iterdir():
        program.chmod(0o755)

    def run(*command: str | Path, failing: str = "", code: int = 1, **more: str) -> tuple[int, list[str]]:
        calls = tmp_path / "calls"
        calls.write_text("")
        environment = {"PATH": f"{programs}:/usr/bin:/bin", "CALLS": str(calls), "LAZYFS_STORE": "/store"}
        environment |= {"LAZYFS_CONFIG": "/config", "LAZYFS_STATUS": "/status", "LAZYFS_WISHLISTS": "/lists"}
        environment |= {"LAZYFS_PLAN": str(tmp_path / "plan"), "FAILING": failing, "CODE": str(code), **more}
        done = subprocess.run(command, env=environment, cwd=tmp_path, check=False, capture_output=True)
        return done.returncode, calls.read_text().splitlines()

    return run


def test_the_jobs_of_gitlab_have_one_shard_each(run: Callable[..., tuple[int, list[str]]]) -> None:
    jobs = yaml.safe_load((TEMPLATES / "gitlab-ci-shards.yml").read_text())
    convert, commit = jobs["convert-images"], jobs["commit-images"]
    assert convert["parallel"] == SHARDS
    assert commit["needs"] == ["plan-images", "convert-images"]
    assert jobs["plan-images"]["artifacts"]["paths"] == ["plan.json"]
    for number in range(1, SHARDS + 1):
        index = {"CI_NODE_INDEX": str(number), "CI_NODE_TOTAL": str(SHARDS)}
        code, calls = run("bash", "-ec", "\n".join(convert["script"]), **index)
        assert (code, calls) == (0, [f"convert plan.json --shard {number}/{SHARDS} /store --config /config"])
    script = "\n".join(commit["script"])
    for failing, code in (("", 0), ("commit", 0), ("sync", 1)):
        done, calls = run("bash", "-ec", script, failing=failing, LAZYFS_KEYS="/keys")
        assert done == code
        assert calls == [
            "commit plan.json /store --finish --keys /keys --config /config",
            "sync wishlists /store --keys /keys --config /config --status-dir /status",
            "repo resign /store --keys /keys",
        ]


def test_the_tasks_of_a_slurm_array_have_one_shard_each(
    run: Callable[..., tuple[int, list[str]]], tmp_path: Path
) -> None:
    script = TEMPLATES / "slurm-shards"
    plan = tmp_path / "plan"
    shards = [f"{number}/{SHARDS}" for number in range(1, SHARDS + 1)]
    for failing, code in (("", 0), ("plan", 0), ("convert", 0), ("commit", 0), ("sync", 1)):
        done, calls = run(script, str(SHARDS), "--mem=1G", failing=failing)
        assert done == code
        assert calls == [
            "plan /lists /store --config /config",
            f"sbatch --wait --array=1-{SHARDS} --mem=1G",
            *(f"convert {plan} --shard {shard} /store --config /config" for shard in shards),
            f"commit {plan} /store --finish --config /config",
            "sync /lists /store --config /config --status-dir /status",
            "repo resign /store",
        ]
    assert run(script, "4", failing="plan", code=2) == (2, ["plan /lists /store --config /config"])
    assert run(script) == (1, [])
