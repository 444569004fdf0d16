import json
import os
from pathlib import Path

import pytest

from lazyfs.core.errors import FormatError
from lazyfs.runtimes.image_defaults import ImageDefaults, command_line, describe

CONFIG = {
    "architecture": "amd64",
    "config": {
        "Env": ["PATH=/opt/bin", "EMPTY=", "EQUALS=a=b"],
        "WorkingDir": "/work dir",
        "Entrypoint": ["/entry"],
        "Cmd": ["default"],
    },
}
SINGULARITY = r"""#!/bin/sh
export PATH="/opt/bin:/bin"
export LANG="${LANG:-"C.UTF-8"}"
export QUOTED="${QUOTED:-"say \"hi\" \$HOME"}"
unset NOT_THIS
"""


def test_an_oci_configuration_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    image = describe("/root-filesystem", str(tmp_path))
    assert image.environment == {"PATH": "/opt/bin", "EMPTY": "", "EQUALS": "a=b"}
    assert (image.workdir, image.entrypoint, image.default_arguments) == (
        "/work dir",
        ("/entry",),
        ("default",),
    )


@pytest.mark.parametrize("config", [{}, {"config": None}, {"config": {"Env": None, "Cmd": None}}])
def test_a_configuration_may_say_nothing(tmp_path: Path, config: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    image = describe("/r", str(tmp_path))
    assert (image.environment, image.workdir, image.entrypoint, image.default_arguments) == ({}, "/", (), ())


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"config": {"Env": "PATH=/bin"}}', b"\xff"])
def test_a_broken_configuration_is_named(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "config.json").write_bytes(raw)
    with pytest.raises(FormatError, match=r"config\.json: not an image configuration"):
        describe("/r", str(tmp_path))


def test_a_flat_image_of_other_publishers_says_it_in_its_singularity_files(tmp_path: Path) -> None:
    (tmp_path / ".singularity.d/env").mkdir(parents=True)
    (tmp_path / ".singularity.d/env/10-docker2singularity.sh").write_text(SINGULARITY)
    (tmp_path / ".singularity.d/runscript").write_text("#!/bin/sh\n")
    image = describe(str(tmp_path), None)
    assert image.environment == {"PATH": "/opt/bin:/bin", "LANG": "C.UTF-8", "QUOTED": 'say "hi" $HOME'}
    assert image.entrypoint == ("/bin/sh", "/.singularity.d/runscript")


def test_an_image_that_says_nothing_has_no_defaults(tmp_path: Path) -> None:
    assert describe(str(tmp_path), str(tmp_path / "missing")) == ImageDefaults(str(tmp_path))


def test_the_entry_point_runs_when_asked_for_or_when_nothing_else_is() -> None:
    image = ImageDefaults("/r", entrypoint=("/entry",), default_arguments=("default",))
    assert command_line(image, ("sh",), entrypoint=False) == ("sh",)
    assert command_line(image, ("sh",), entrypoint=True) == ("/entry", "sh")
    assert command_line(image, (), entrypoint=False) == ("/entry", "default")


def test_a_nul_in_the_singularity_files_is_named(tmp_path: Path) -> None:
    (tmp_path / ".singularity.d/env").mkdir(parents=True)
    script = tmp_path / ".singularity.d/env/10-docker2singularity.sh"
    script.write_bytes(b'export PATH="/bin"\nexport X="a\0--bind\0/home\0/tmp"\n')
    with pytest.raises(FormatError, match=r"10-docker2singularity\.sh: X: .*U\+0000"):
        describe(str(tmp_path), None)


def test_start_files_without_end_are_not_read(tmp_path: Path) -> None:
    (tmp_path / ".singularity.d/env").mkdir(parents=True)
    with (tmp_path / ".singularity.d/env/10-docker2singularity.sh").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(FormatError, match=r"10-docker2singularity\.sh: longer than 1048576 bytes"):
        describe(str(tmp_path), None)
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(FormatError, match=r"config\.json: longer than 8388608 bytes"):
        describe("/r", str(tmp_path))


def test_a_pipe_or_a_link_in_place_of_a_start_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "image/.singularity.d/env").mkdir(parents=True)
    os.mkfifo(tmp_path / "image/.singularity.d/env/10-docker2singularity.sh")
    (tmp_path / "metadata").mkdir()
    (tmp_path / "outside.json").write_text(json.dumps(CONFIG))
    (tmp_path / "metadata/config.json").symlink_to(tmp_path / "outside.json")
    assert describe(str(tmp_path / "image"), str(tmp_path / "metadata")).environment == {}
