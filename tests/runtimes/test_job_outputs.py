"""The outputs of a job, whose program has chosen every name and type, beside those of earlier jobs."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.job_outputs import carry_out, check_patterns


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Makes a working directory with files, links, a hidden file and directories."""
    work = tmp_path / "work"
    (work / "d/e").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    for name in ("a.root", "b.root", "d/e/c.root", ".hidden"):
        (work / name).write_text(name)
    (work / "d/l").symlink_to("x")
    (work / "inner").symlink_to("d")
    (work / "circle").symlink_to(".")
    (work / "second").symlink_to(".")
    (work / "out").symlink_to("/")
    return work


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["*.root", "a.root"], ["a.root", "b.root"]),
        (["[ab].root", "?.root"], ["a.root", "b.root"]),
        (["d", "d/l", "d/e/*"], ["d", "d/e/c.root", "d/l"]),
        (["d/l", "d"], ["d", "d/l"]),
        (["**/*.root"], ["a.root", "b.root", "d/e/c.root"]),
        (["d/**"], ["d/e", "d/e/c.root", "d/l"]),
        (["./d//e/"], ["d/e"]),
        (["*/*"], ["d/e", "d/l"]),
        (["inner/e/c.root"], ["inner/e/c.root"]),
        ([".*"], [".hidden"]),
        (["out", "none", "none/*", "", "a.root/x"], ["out"]),
    ],
)
def test_each_name_comes_out_once(work: Path, tmp_path: Path, patterns: list[str], names: list[str]) -> None:
    results = tmp_path / "results"
    copied, uncopied = carry_out(str(work), patterns, str(results), ())
    assert (sorted(copied), uncopied) == (names, {})
    for name, path in copied.items():
        assert path == f"{results}/{name}"
        if not os.path.isdir(path):
            assert os.path.islink(path) == (work / name).is_symlink()
            assert (
                os.path.islink(path)
                or Path(path).read_text() == (work / name).resolve().relative_to(work).as_posix()
            )


def test_no_link_of_an_earlier_job_is_followed(work: Path, tmp_path: Path) -> None:
    results, victims = tmp_path / "results", tmp_path / "victims"
    victims.mkdir()
    (victims / "file").write_text("precious")
    (results / "a.root").symlink_to(victims / "file")
    (results / "b.root").symlink_to(victims / "new")
    (results / "d").symlink_to(victims)
    copied, uncopied = carry_out(str(work), ["*.root", "d/e/c.root", "d"], str(results), ())
    assert (sorted(copied), uncopied) == (["a.root", "b.root", "d", "d/e/c.root"], {})
    assert (os.listdir(victims), (victims / "file").read_text()) == (["file"], "precious")
    assert (results / "a.root").read_text() == "a.root"
    assert (results / "d/e/c.root").read_text() == "d/e/c.root"


def test_what_cannot_be_copied_is_named_and_stops_nothing_else(work: Path, tmp_path: Path) -> None:
    """Names of lazyfs's own files, a directory of an earlier job in the place of a file, and a link that
    leads out of the job's directory."""
    results = tmp_path / "results"
    (work / "stdout").write_text("mine")
    (results / "stdout").write_text("lazyfs's")
    (results / "a.root/earlier").mkdir(parents=True)
    copied, uncopied = carry_out(str(work), ["*", "out/etc/*", "."], str(results), {"stdout"})
    assert uncopied == {
        "a.root": "cannot be copied: Is a directory",
        "out/etc/*": "leads out of the job's directory",
        "stdout": "cannot be copied: a file of lazyfs's own has this name",
    }
    assert {"b.root", "d", "."} <= set(copied)
    assert (results / "stdout").read_text() == "lazyfs's"
    assert (results / "a.root/earlier").is_dir()


def test_a_part_of_a_directory_that_cannot_be_copied_is_named(work: Path, tmp_path: Path) -> None:
    (tmp_path / "results/d/e/c.root").mkdir(parents=True)
    copied, uncopied = carry_out(str(work), ["d"], str(tmp_path / "results"), ())
    assert (set(copied), uncopied) == ({"d"}, {"d/e/c.root": "cannot be copied: Is a directory"})
    assert os.readlink(tmp_path / "results/d/l") == "x"


def test_nothing_is_copied_twice(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that has been copied may have a mode that forbids to write into it."""
    copied: list[str] = []
    copyfile = shutil.copyfile

    def noted(source: str, target: str, *, follow_symlinks: bool) -> None:
        copied.append(target)
        copyfile(source, target, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(shutil, "copyfile", noted)
    carry_out(str(work), ["d/e/*", "d", "*", "d/l"], str(tmp_path / "results"), ())
    assert len(copied) == len(set(copied)) == 8


def test_modes_are_kept_also_one_that_forbids_to_write(work: Path, tmp_path: Path) -> None:
    (work / "d/e").chmod(0o555)
    carry_out(str(work), ["d", "d/e/*"], str(tmp_path / "results"), ())
    assert stat.S_IMODE((tmp_path / "results/d/e").stat().st_mode) == 0o555
    (work / "d/e").chmod(0o755)


def test_directories_are_nested_deeper_than_python_calls(work: Path, tmp_path: Path) -> None:
    subprocess.run(["mkdir", "-p", os.path.join(work, *["n"] * 1500)], check=True)
    copied, uncopied = carry_out(str(work), ["n", "**/none"], str(tmp_path / "results"), ())
    assert (list(copied), uncopied) == (["n"], {})
    assert os.path.isdir(os.path.join(tmp_path, "results", *["n"] * 1500))
    for top in (work, tmp_path / "results"):
        subprocess.run(["rm", "-rf", top / "n"], check=True)  # pytest would remove it by calls


@pytest.mark.parametrize("pattern", ["/etc/passwd", "..", "../x", "d/../../x"])
def test_a_pattern_that_leads_out_is_refused_before_the_start(pattern: str) -> None:
    with pytest.raises(
        UsageError, match="leads out of the job's directory: write a name or pattern below it"
    ):
        check_patterns([pattern])
