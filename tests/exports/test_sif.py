"""SIF files: lazyfs publishes those of Apptainer, Apptainer runs those of lazyfs, equal images give equal
bytes, and a damaged or hostile file is refused in one line."""

import json
import os
import random
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lazyfs.core.errors import FormatError, LazyfsError, UsageError
from lazyfs.core.sif.layout import DESCRIPTOR, HEADER, TABLE_AT, Filesystem, PartitionUse
from lazyfs.images import squashfs
from lazyfs.images.inputs import temporary_input
from lazyfs.images.layer_reader import LayerLimits
from lazyfs.repository.diff import resolve
from tests.support.catalog_listing import Listed, open_tree
from tests.support.counts import count
from tests.support.exporting import PLACE, export_image
from tests.support.oci_images import Built, entry, layer
from tests.support.open_paths import open_to_all
from tests.support.repositories import Repository
from tests.support.runtimes import search_path

DEFINITION = """\
Bootstrap: localimage
From: root
%labels
 Author somebody
 quoted a"b
%environment
 export GREETING=hello
%runscript
 echo "$GREETING" "$@"
"""
RUN = {"Entrypoint": ["/bin/busybox"], "Cmd": ["echo", "from the image"], "Env": ["GREETING=hello"]}


def apptainer(*arguments: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        ["apptainer", "--silent", *map(str, arguments)],
        env={**os.environ, "PATH": search_path()},
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def busybox_tree(directory: Path) -> Path:
    root = directory / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin")
    (root / "bin/sh").symlink_to("busybox")
    os.link(root / "bin/busybox", root / "bin/true")
    os.chown(root / "bin/sh", 7, 8, follow_symlinks=False)
    return root


def busybox_image(directory: Path) -> Path:
    """Makes an OCI layout with an image that runs busybox; returns the layout."""
    with open("/bin/busybox", "rb") as file:
        program = file.read()
    files = layer(
        entry("bin", tarfile.DIRTYPE),
        entry("bin/busybox", data=program, mode=0o755, mtime=1_700_000_000),
        entry("bin/sh", tarfile.SYMTYPE, linkname="busybox"),
        entry("bin/true", tarfile.LNKTYPE, linkname="bin/busybox", mode=0o755),
        entry("acl", data=b"x", pax={"SCHILY.xattr.system.posix_acl_access": "\2\0\0\0", "mtime": "-5"}),
    )
    return Built([files], config={**RUN, "Labels": {"Author": "somebody"}}).write_layout(directory / "layout")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports an image as a SIF file; returns the file's path."""
    directory = tmp_path_factory.mktemp("exported")
    repository = Repository(directory)
    repository.publish(f"oci:{busybox_image(directory)}", place=PLACE, plain=False)
    export_image(repository, f"sif:{directory}/app.sif")
    return directory / "app.sif"


@pytest.mark.root
def test_apptainer_builds_and_lazyfs_publishes(tmp_path: Path) -> None:
    busybox_tree(tmp_path)
    (tmp_path / "app.def").write_text(DEFINITION)
    apptainer("build", "app.sif", "app.def", cwd=tmp_path)
    repository = Repository(tmp_path)
    repository.publish(f"sif:{tmp_path}/app.sif", place=PLACE, plain=False)
    tree = open_tree(repository.path)
    listed = Listed(tree, resolve(tree, PLACE).path)
    assert listed.read(b".singularity.d/Singularity").decode() == DEFINITION
    assert listed.read(b"bin/busybox") == Path("/bin/busybox").read_bytes()
    assert listed.hardlink_groups() == {frozenset((b"bin/true", b"bin/busybox"))}
    assert (listed.entries[b"bin/sh"].uid, listed.entries[b"bin/sh"].gid) == (7, 8)
    config = json.loads(tree.file(f".metadata/{PLACE}/config.json"))
    assert config["architecture"] == "amd64"
    assert config["config"]["Cmd"] == ["/.singularity.d/actions/run"]
    assert config["config"]["Labels"]["quoted"] == 'a"b'
    manifest = json.loads(tree.file(f".metadata/{PLACE}/manifest.json"))
    assert manifest["annotations"]["io.lazyfs.sif.definition"] == DEFINITION

    export_image(repository, f"sif:{tmp_path}/again.sif")
    assert apptainer("run", tmp_path / "again.sif", "world") == "hello world\n"
    assert apptainer("inspect", "--deffile", tmp_path / "again.sif").strip() == DEFINITION.strip()
    labels = json.loads(apptainer("inspect", "--labels", "--json", tmp_path / "again.sif"))
    assert labels["data"]["attributes"]["labels"]["Author"] == "somebody"


@pytest.mark.root
def test_lazyfs_exports_and_apptainer_runs(exported: Path) -> None:
    assert apptainer("exec", exported, "/bin/sh", "-c", "echo $GREETING; exec true") == "hello\n"
    assert apptainer("run", exported) == "from the image\n"
    assert os.access(exported, os.X_OK)


def test_a_published_image_keeps_its_config(exported: Path, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.publish(f"sif:{exported}", place=PLACE)
    config = json.loads(open_tree(repository.path).file(f".metadata/{PLACE}/config.json"))
    assert config["config"] == {**RUN, "Labels": {"Author": "somebody"}}
    assert config["created"] == "2024-05-06T07:08:09Z"
    assert len(config["rootfs"]["diff_ids"]) == 1


def test_equal_images_give_equal_bytes_however_many_processors(exported: Path, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.publish(f"oci:{busybox_image(tmp_path)}", place=PLACE, plain=False)
    warnings: list[str] = []
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        export_image(repository, f"sif:{tmp_path}/again.sif", warn=warnings.append)
    finally:
        os.sched_setaffinity(0, allowed)
    assert (tmp_path / "again.sif").read_bytes() == exported.read_bytes()
    assert warnings == [
        f"{PLACE}: 1 times before 1970 or after 2106 are changed, which squashfs cannot hold",
        f"{PLACE}: 1 extended attributes are left out, which squashfs cannot hold",
    ]


def test_another_image_has_another_id(exported: Path, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    layout = Built([layer(entry("file", data=b"x"))]).write_layout(tmp_path / "layout")
    repository.publish(f"oci:{layout}", place=PLACE)
    export_image(repository, f"sif:{tmp_path}/app.sif")
    ids = [HEADER.unpack_from(path.read_bytes())[4] for path in (exported, tmp_path / "app.sif")]
    assert len(set(ids)) == 2
    assert bytes(16) not in ids


PARTITION_AT = TABLE_AT + DESCRIPTOR.size
"""Offset of the partition's descriptor in a SIF file that lazyfs has exported without a definition file. It
is the second descriptor."""
EXTRA_AT = PARTITION_AT + DESCRIPTOR.size - 384


def put(at: int, form: str, *values: int) -> Callable[[bytearray], None]:
    return lambda data: struct.pack_into(form, data, at, *values)


def without_magic(data: bytearray) -> None:
    data[32:42] = bytes(10)


def bare(data: bytearray) -> None:
    del data[: data.index(b"hsqs")]


def in_two_parts(data: bytearray) -> None:
    """Turns the descriptor of the config into one of a second primary partition, for another architecture."""
    put(TABLE_AT, "<i", 0x4004)(data)
    put(EXTRA_AT - DESCRIPTOR.size, "<ii3s", Filesystem.SQUASHFS, PartitionUse.PRIMARY, b"04\0")(data)  # type: ignore[arg-type]


def for_two_others(data: bytearray) -> None:
    in_two_parts(data)
    data[EXTRA_AT + 8 : EXTRA_AT + 11] = b"11\0"


DAMAGES: list[tuple[Callable[[bytearray], None], str]] = [
    (without_magic, "not a SIF file"),
    (bare, "not a SIF file: a bare squashfs filesystem without SIF header"),
    (lambda data: data.__delitem__(slice(60, None)), "the SIF header is cut off"),
    (put(42, "<c", b"9"), "SIF version"),  # type: ignore[arg-type]
    (put(88, "<q", 1 << 40), "a table of 1099511627776 descriptors"),
    (put(96, "<q", 1 << 40), "the table at 1099511627776 lies outside"),
    (put(96, "<q", -5), "the table at -5 lies outside"),
    (put(PARTITION_AT, "<i", 0x4007), "no system partition"),
    (put(EXTRA_AT + 4, "<i", PartitionUse.OVERLAY), "no system partition"),
    (put(EXTRA_AT, "<i", Filesystem.ENCRYPTED_SQUASHFS), "its filesystem is encrypted"),
    (put(EXTRA_AT, "<i", Filesystem.EXT3), "its filesystem is ext3"),
    (put(EXTRA_AT, "<i", 77), "its filesystem is of kind 77, not squashfs"),
    (put(PARTITION_AT + 17, "<q", 1 << 40), "lies outside of the file"),
    (put(PARTITION_AT + 25, "<q", -1), "lies outside of the file"),
    (
        for_two_others,
        "2 system partitions, for arm64, s390x: 0 of them fit linux/amd64; choose with --platform",
    ),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
def test_what_cannot_be_published_is_refused_in_one_line(
    exported: Path, tmp_path: Path, damage: Callable[[bytearray], None], reason: str
) -> None:
    data = bytearray(exported.read_bytes())
    damage(data)
    (tmp_path / "bad.sif").write_bytes(data)
    repository = Repository(tmp_path)
    with pytest.raises((FormatError, UsageError)) as caught:
        repository.publish(f"sif:{tmp_path}/bad.sif", place=PLACE)
    assert str(caught.value).startswith(f"sif:{tmp_path}/bad.sif: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_several_architectures_the_wanted_one_is_taken(exported: Path, tmp_path: Path) -> None:
    data = bytearray(exported.read_bytes())
    in_two_parts(data)
    (tmp_path / "two.sif").write_bytes(data)
    repository = Repository(tmp_path)
    repository.publish(f"sif:{tmp_path}/two.sif", place=PLACE)
    tree = open_tree(repository.path)
    assert b"bin/busybox" in Listed(tree, resolve(tree, PLACE).path).entries


@pytest.mark.timeout(900)  # 400 files, 60 s where little else runs
def test_a_damaged_squashfs_ends_in_an_error_or_a_tree(exported: Path, tmp_path: Path) -> None:
    """Publishing files with random damage raises only one-line errors, does not hang, and writes nothing
    beside the store."""
    whole = exported.read_bytes()
    start = whole.index(b"hsqs")
    repository = Repository(tmp_path)
    chance = random.Random(18)
    refused = []
    for _ in range(count(12, 400)):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 5, 50])):
            # the superblock, or the tables at the end, where the names and places are
            at = (
                start + chance.randrange(96)
                if chance.random() < 0.3
                else len(data) - chance.randrange(1, 3000)
            )
            data[at] = chance.randrange(256)
        (tmp_path / "bad.sif").write_bytes(data)
        try:
            repository.publish(f"sif:{tmp_path}/bad.sif", place=PLACE)
        except LazyfsError as error:
            refused.append(str(error))
    assert refused
    assert not [message for message in refused if "\n" in message]
    assert sorted(os.listdir(tmp_path)) == ["bad.sif", "keys", "store"]


def test_a_cut_off_squashfs_is_refused(exported: Path, tmp_path: Path) -> None:
    data = bytearray(exported.read_bytes())
    size = len(data) - data.index(b"hsqs")
    put(PARTITION_AT + 25, "<q", size - 8192)(data)
    (tmp_path / "bad.sif").write_bytes(data[:-8192])
    with pytest.raises(FormatError, match="its squashfs cannot be read: "):
        Repository(tmp_path).publish(f"sif:{tmp_path}/bad.sif", place=PLACE)


def test_a_small_file_that_expands_without_end(exported: Path) -> None:
    with tarfile.open(exported.parent / "zeros.tar", "w") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 64 << 20
        with open("/dev/zero", "rb") as zeros:
            archive.addfile(info, zeros)
    with open(exported.parent / "zeros.tar", "rb") as parts:
        squashfs.write_squashfs(iter(lambda: parts.read(1 << 20), b""), str(exported.parent / "bomb"))
    with open(exported.parent / "bomb", "rb") as file:
        bomb = temporary_input([file.read()], "sif:bomb")
    expands = pytest.raises(FormatError, match=r"sif:bomb: \d+ bytes expand to over \d+: a bomb\?")
    given: list[int] = []
    with closing(bomb), expands:
        given.extend(len(part) for part in squashfs.tar_of(bomb, LayerLimits(free=1 << 20)))
    assert sum(given) < 20 << 20


@pytest.fixture
def silent_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes stand-ins for sqfs2tar and tar2sqfs that only sleep, puts them before the real ones on PATH, and
    shortens the timeout."""
    for name in ("sqfs2tar", "tar2sqfs"):
        put_program(tmp_path, name, "exec sleep 1000", monkeypatch)
    monkeypatch.setattr(squashfs, "SILENCE", 0.2)


def put_program(directory: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes a shell script that every user can start as the program `name`, and puts its directory first on
    PATH."""
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)
    open_to_all(directory)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


@pytest.mark.usefixtures("silent_programs")
def test_a_program_that_says_nothing_is_killed() -> None:
    given = pytest.raises(FormatError, match=r"sif:app: sqfs2tar has given nothing for 0\.2 s")
    with closing(temporary_input([b"x"], "sif:app")) as file, given:
        list(squashfs.tar_of(file, LayerLimits()))
    with pytest.raises(LazyfsError, match=r"tar2sqfs has taken nothing for 0\.2 s"):
        squashfs.write_squashfs([bytes(1 << 20)], "never")


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("prlimit", "setpriv"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = pytest.raises(UsageError, match="sqfs2tar is missing: install squashfs-tools-ng")
    with closing(temporary_input([b"x"], "sif:app")) as file, missing:
        list(squashfs.tar_of(file, LayerLimits()))
    with pytest.raises(UsageError, match="tar2sqfs is missing: install squashfs-tools-ng"):
        squashfs.write_squashfs([b""], "never")


@pytest.mark.root
def test_the_reader_of_a_strangers_filesystem_has_no_power(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A script in place of sqfs2tar prints its user, limits, capabilities and environment."""
    script = "id -u; id -G; ulimit -f; ulimit -v; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; env"
    put_program(tmp_path, "sqfs2tar", script, monkeypatch)
    monkeypatch.setenv("SECRET", "secret")
    with closing(temporary_input([b"x"], "sif:app")) as file:
        said = b"".join(squashfs.tar_of(file, LayerLimits())).decode()
    assert said.startswith("65534\n65534\n0\n2097152\n")
    assert "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n" in said
    assert "SECRET" not in said
