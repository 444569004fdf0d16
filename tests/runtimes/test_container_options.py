"""The settings of ATLAS's queues: container_type and container_options."""

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.container_options import parse_container_type, parse_options


def test_the_types_of_a_queue() -> None:
    assert parse_container_type("singularity:pilot;docker:wrapper") == [
        ("singularity", "pilot"),
        ("docker", "wrapper"),
    ]
    assert parse_container_type("singularity:pilot") == [("singularity", "pilot")]
    for text in ("", "singularity", "singularity:driver", ":pilot"):
        with pytest.raises(UsageError, match="container_type"):
            parse_container_type(text)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("-B /mnt/lustre_2", ["--bind", "/mnt/lustre_2"]),
        ("-B /a:/b:ro,/c --pwd=/srv", ["--bind", "/a:/b:ro", "--bind", "/c", "--pwd", "/srv"]),
        ("--bind /a:/b:ro,required", ["--bind", "/a:/b:ro,required"]),
        ("-c -i -p -e --no-home --contain --ipc", []),
        ("--net --network none", ["--network", "none", "--network", "none"]),
        ("--env 'A=two words'", ["--env", "A=two words"]),
        ("", []),
    ],
)
def test_options_of_singularity_are_those_of_run(options: str, expected: list[str]) -> None:
    assert parse_options(options) == expected


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("-B /mnt/lustre_2 --writable", "an image is read-only"),
        ("--writable", "an image is read-only"),
        ("--overlay /x", "'--overlay' has no counterpart"),
        ("-B", "-B takes a value"),
        ("-B --nv", "-B takes a value"),
        ("--network bridge", "'--network' has no counterpart"),
        ("'", "No closing quotation"),
        ("/etc", "'/etc' has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_refused(options: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_options(options)
