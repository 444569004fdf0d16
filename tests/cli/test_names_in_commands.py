"""Every command finds an image under all spellings of the name under which it was published."""

import tarfile
from pathlib import Path

import pytest

from tests.support.cli import lazyfs, mounted, new_repository
from tests.support.oci_images import Built, entry, layer

PLACE = "docker.io/library/app:latest"
SPELLINGS = ["app", "registry-1.docker.io/app:latest", "registry.hub.docker.com/library/app"]


@pytest.mark.root
def test_every_command_takes_every_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    store, keys = new_repository(tmp_path)
    files = [entry("bin", tarfile.DIRTYPE), entry("bin/true", data=b"#!\n", mode=0o755)]
    layout = Built([layer(*files)], config={"Cmd": ["/bin/true"]}).write_layout(tmp_path / "layout")
    said = lazyfs("publish", f"oci:{layout}", store, "--as", "index.docker.io/app", "--keys", keys).stdout
    assert f"-> {PLACE}" in said
    trace = tmp_path / "trace"
    cache = tmp_path / "cache"
    with mounted(store, tmp_path / "mnt", "--cache", cache, "--trace", trace) as mnt:
        (mnt / PLACE / "bin/true").read_bytes()
        for name in SPELLINGS:
            assert f"{mnt}/.flat" in lazyfs("run", name, "--explain").stdout
            assert PLACE in lazyfs("cache", "pin", name).stdout
    for name in SPELLINGS:
        assert PLACE in lazyfs("inspect", name, store).stdout
        assert lazyfs("diff", name, f"@2/{PLACE}", store).stdout == ""
        assert "the same" in lazyfs("check", store, "--against", f"oci:{layout}", "--as", name).stdout
        assert "hot packs of" in lazyfs("profile", "make", name, trace, store, "--keys", keys).stdout
    for words in (["inspect", "ap"], ["diff", "ap", "app"]):
        refused = lazyfs(*words, store, check=False)
        assert refused.returncode == 2
        assert f"there are {PLACE}" in refused.stderr
