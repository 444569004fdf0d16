"""The next tag of the profiles benchmark changes the files of some directories."""

from benchmarks.profiles.next_tag import CHANGED, upgraded


def test_a_fifth_of_the_touched_files_changes_directory_by_directory() -> None:
    touched = [f"usr/lib/p{at % 10}/m{at}.pyc" for at in range(80)] + [f"etc/{at}.conf" for at in range(20)]
    changed = upgraded(touched)
    assert len(changed) == CHANGED * len(touched)
    assert set(changed) < set(touched)
    directories = {path.rsplit("/", 1)[0] for path in changed}
    assert "etc" not in directories, "a program may not bear another content there"
    assert len(directories) <= 3
    assert upgraded(touched) == changed
