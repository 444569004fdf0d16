"""No text in an image's configuration becomes an option of a runtime."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lazyfs.core.errors import LazyfsError
from lazyfs.runtimes.bubblewrap import Bubblewrap
from lazyfs.runtimes.image_defaults import command_line, describe
from lazyfs.runtimes.launch import Launch
from tests.support.fuzzing import TIMEOUT, examples, for_seconds
from tests.support.lines_reached import led_by_lines

pytestmark = pytest.mark.timeout(TIMEOUT)
OPTIONS = ["--bind", "--ro-bind", "--dev-bind", "--setenv", "--cap-add", "--args", "--", "--chdir"]
texts = st.one_of(
    st.sampled_from(
        [
            *(
                "",
                "/",
                "/bin/true",
                "..",
                "a=b",
                "PATH=/bin",
                "=x",
                "x",
                "A=\0--bind\0/\0/",
                "\0",
                "A=\n",
                "A=\x1b[2J",
            ),
            *("A=\ud800", "A=\u202e", "A=" + "x" * 140_000, "A={arguments}", "{status}", *OPTIONS),
            *(f"A={option}" for option in OPTIONS),
            *("/tmp/../..", "//", "a/\0", "/proc/self/root", "-", "-c", 'A=${A:-"x"}', "LD_PRELOAD=/x"),
        ]
    ),
    st.text(max_size=8).map("A={}".format),
    st.text(max_size=8),
)
other = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "Env": st.lists(texts, max_size=5) | other,
        "Entrypoint": st.lists(texts, max_size=3) | other,
        "Cmd": st.lists(texts, max_size=3) | other,
        "WorkingDir": texts | other,
        "User": texts | other,
        "Labels": st.dictionaries(texts, texts, max_size=2) | other,
        "env": st.lists(texts, max_size=2),
    },
)
configs = st.one_of(
    fields.map(lambda config: json.dumps({"config": config}).encode()),
    fields.map(lambda config: json.dumps({"config": config}, ensure_ascii=False).encode("utf-8", "replace")),
    other.map(lambda config: json.dumps({"config": config}).encode()),
    other.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    st.sampled_from(
        [b"[" * 5000, b'{"config":' * 3000, b'{"config": {"Env": ' + b"9" * 5000 + b"}}", b"\xff"]
    ),
)
scripts = st.lists(
    st.builds(
        "export {}={}".format, st.sampled_from(["A", "B", "PATH", "1", "", "A-B"]), texts.map('"{}"'.format)
    )
    | texts,
    max_size=5,
).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("image")
    for name in ("proc", "dev", "tmp", "etc", ".singularity.d/env"):
        (root / name).mkdir(parents=True)
    return root


def _check_plan(image: Path, metadata: str | None) -> None:
    defaults = describe(str(image), metadata)
    command = command_line(defaults, (), entrypoint=False) or ("true",)
    launch = Launch(str(image), command, {"PATH": "/bin", **defaults.environment}, defaults.workdir)
    plan = Bubblewrap().plan(launch)
    plain = Bubblewrap().plan(Launch(str(image), ("true",), {}, "/"))
    fixed = plain.shown[: plain.shown.index("--clearenv")]
    words = [word for pair in launch.environment.items() for word in ("--setenv", *pair)]
    assert plan.shown == (*fixed, "--clearenv", *words, "--chdir", launch.workdir, "--", *command)
    assert plan.options == plain.options
    assert plan.command == command
    for text in (*plan.shown, *plan.options, *plan.command):
        assert "\0" not in text
    assert all(
        content.count(b"\0") == len(plan.shown) - 2 - len(command) for content in _arguments(plan.files)
    )


def _arguments(files: object) -> list[bytes]:
    assert isinstance(files, dict)
    return [content for content in files.values() if b"--clearenv\0" in content]


FUZZ = settings(
    max_examples=examples(100, 5_000),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def test_any_config(image: Path, tmp_path: Path) -> None:
    @for_seconds
    @FUZZ
    @given(configs)
    def test_config_to_arguments(config: bytes) -> None:
        (tmp_path / "config.json").write_bytes(config)
        with led_by_lines("lazyfs.core.oci.run_config", "lazyfs.core.foreign_text", "lazyfs.runtimes.launch"):
            try:
                _check_plan(image, str(tmp_path))
            except LazyfsError:
                return

    test_config_to_arguments()


def test_any_start_script_of_singularity(image: Path) -> None:
    script = image / ".singularity.d/env/10-docker2singularity.sh"

    @for_seconds
    @FUZZ
    @given(scripts | st.binary(max_size=60))
    def test_script_to_arguments(text: bytes) -> None:
        script.write_bytes(text)
        with led_by_lines("lazyfs.runtimes.image_defaults", "lazyfs.core.foreign_text"):
            try:
                _check_plan(image, None)
            except LazyfsError:
                return

    test_script_to_arguments()
