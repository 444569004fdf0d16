import os
import subprocess
from pathlib import Path

from benchmarks.facts import gather


def _commit(repository: Path, text: str) -> str:
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (repository / "file").write_text(text)
    (repository / "benchmarks/results").mkdir(parents=True)
    (repository / "benchmarks/results/a.json").write_text(text)
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", text]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True)
    return head.stdout.strip()


def test_facts_name_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    head = _commit(tmp_path, "first")
    (tmp_path / "benchmarks/results/a.json").unlink()  # as a benchmark does before it writes its own result
    assert gather(tmp_path).commit == head
    (tmp_path / "file").write_text("changed")
    assert gather(tmp_path).commit == head + "+"


def test_facts_describe_this_machine(tmp_path: Path) -> None:
    _commit(tmp_path, "first")
    facts = gather(tmp_path)
    assert facts.cores == len(os.sched_getaffinity(0))
    assert facts.memory_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
