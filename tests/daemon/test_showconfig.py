"""Each setting is shown with its value and its source, and without its password."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.daemon.mount_options import MOUNT_OPTIONS
from lazyfs.daemon.setting_origins import Origin, dotted, file_origins
from tests.support.cli import lazyfs, mounted, serving
from tests.support.repository import Published

SECRET = "Sesame77"
TOML = """# a site
mountpoint = "/nowhere"
proxy = "http://site:Sesame77@squid:3128;DIRECT"

cache_limit = '''
7G'''

[repositories."one.example"]
url = "http://site:Sesame77@origin/one"
trust = "/etc/one.json"

[repositories.two]
url = "/srv/two"
"""


def shown(*arguments: str | Path) -> dict[str, dict[str, Any]]:
    found = json.loads(lazyfs("showconfig", "--json", *arguments).stdout)
    return {setting["name"]: setting for setting in found}


def origin(setting: dict[str, Any]) -> tuple[str, str, str]:
    return setting["origin"]["kind"], setting["origin"]["place"], setting["origin"]["through"]


def test_a_file_is_shown_with_lines_and_without_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAZYFS_PROXY", raising=False)
    config = tmp_path / "site.toml"
    config.write_text(TOML)
    found = shown("--config", config)
    assert origin(found["mountpoint"]) == ("file", f"{config}:2", "")
    assert origin(found["proxy"]) == ("file", f"{config}:3", "")
    assert (found["cache_limit"]["value"], origin(found["cache_limit"])[1]) == ("7G", f"{config}:5")
    assert origin(found['repositories."one.example".url'])[1] == f"{config}:9"
    assert origin(found['repositories."one.example".trust'])[1] == f"{config}:10"
    assert origin(found['repositories."one.example".proxy'])[0] == "mount"
    assert origin(found["repositories.two.url"])[1] == f"{config}:13"
    assert found["proxy"]["value"] == "http://***@squid:3128;DIRECT"
    assert origin(found["patience"]) == ("default", "", "")
    assert found["patience"]["value"] == 30
    text = lazyfs("showconfig", "--config", config).stdout
    assert f"proxy = http://***@squid:3128;DIRECT  # file {config}:3\n" in text
    assert "suid = false (off: nosuid)  # default\n" in text
    assert SECRET not in text + json.dumps(found)


def test_a_variable_and_a_file_of_a_secret_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"http://site:{SECRET}@squid:3128\n")
    config = tmp_path / "site.toml"
    config.write_text(f'source = "http://o/x"\nproxy = "@{secret}"\n')
    monkeypatch.delenv("LAZYFS_PROXY", raising=False)
    assert origin(shown("/mnt", "--config", config)["proxy"]) == ("file", f"{config}:2", str(secret))
    assert origin(shown("/mnt", "--config", config)["mountpoint"]) == ("command line", "", "")
    monkeypatch.setenv("LAZYFS_PROXY", f"@{secret}")
    found = shown("/mnt", "--config", config)
    assert origin(found["proxy"]) == ("environment", "LAZYFS_PROXY", str(secret))
    assert found["proxy"]["value"] == "http://***@squid:3128"


@pytest.mark.root
def test_a_mount_tells_what_it_was_mounted_with(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "mount.toml"
    config.write_text(f'cache = "{tmp_path}/cache"\nrefresh = 100\npatience = 9\n')
    trust = published.store / "metadata/1.root.json"
    with serving(published.store) as url:
        monkeypatch.setenv("LAZYFS_PROXY", "DIRECT")
        with mounted(url, tmp_path / "mnt", "--config", config, "--trust", trust, "--patience", "7") as mnt:
            monkeypatch.delenv("LAZYFS_PROXY")  # the mount's counts, not that of the command that asks
            found = shown(mnt)
    assert origin(found["refresh"]) == ("file", f"{config}:2", "")
    assert (found["patience"]["value"], origin(found["patience"])) == (7, ("command line", "", ""))
    assert (found["proxy"]["value"], origin(found["proxy"])) == (
        "DIRECT",
        ("environment", "LAZYFS_PROXY", ""),
    )
    assert (found["source"]["value"], found["fuse"]["origin"]["kind"]) == (url, "default")
    assert {option.field for option in MOUNT_OPTIONS} < set(found)


def test_neither_mount_nor_file_is_refused() -> None:
    done = lazyfs("showconfig", check=False)
    assert (done.returncode, "MOUNTPOINT, or --config" in done.stderr) == (2, True)


def quoted(text: str) -> str:
    """Returns a text in TOML's notation."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@given(st.dictionaries(st.text(), st.lists(st.text()), min_size=1), st.integers(0, 5))
def test_every_key_of_a_file_is_found_in_its_line(fields: dict[str, list[str]], comments: int) -> None:
    lines = ["# comment"] * comments
    expected = {}
    for name, values in fields.items():
        expected[dotted((name,))] = Origin("file", f"f:{len(lines) + 1}")
        lines += [f"{quoted(name)} = [", *(f"  {quoted(value)}," for value in values), "]"]
    assert file_origins("\n".join(lines).encode(), "f") == expected


def test_the_sections_of_a_file_are_told_apart() -> None:
    text = b'a = 1\n[x]\n[x."b.c"]\nd = """\n[y]\n"""\n[y]\ne = {f = 2, g = "@/s"}\nh.i = 3\n'
    assert {name: (found.place, found.through) for name, found in file_origins(text, "f").items()} == {
        "a": ("f:1", ""),
        'x."b.c".d': ("f:4", ""),
        "y.e.f": ("f:8", ""),
        "y.e.g": ("f:8", "/s"),
        "y.h.i": ("f:9", ""),
    }
