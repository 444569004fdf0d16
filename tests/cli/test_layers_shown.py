import io

import pytest
from rich.console import Console

from lazyfs.cli.layers_shown import ShownLayers


def test_a_terminal_shows_the_image_and_the_whole_of_it() -> None:
    out = io.StringIO()
    terminal = Console(file=out, force_terminal=True, width=80, color_system=None)
    name = "docker://registry.example/a/very/long/repository/analysis:1.2"
    with ShownLayers(enabled=True, terminal=terminal) as shown:
        shown.image(name, 3, 4_000_000)
        shown.layer(f"{name}: layer 0 (sha256:abc)", 1_000_000, kept=True)
        shown.layer(f"{name}: layer 1 (sha256:def)", 2_000_000, kept=False)(1_000_000)
        shown.warn("the file \x1b]0;x\x07 is odd")
    last = [line for line in out.getvalue().splitlines() if "repository/analysis:1.2" in line][-1]
    assert "2/3" in last
    assert "2.0/4.0 MB" in last
    assert "sha256" not in out.getvalue()
    assert r"the file \x1b]0;x\x07 is odd" in out.getvalue()
    assert "\x07" not in out.getvalue()


def test_a_log_has_a_line_for_each_layer(capsys: pytest.CaptureFixture[str]) -> None:
    with ShownLayers(enabled=True) as shown:
        shown.image("app:1", 1, 7)
        shown.layer("app:1: layer 0", 7, kept=True)
    assert capsys.readouterr().err == "app:1: layer 0: 7 bytes, already in the store\n"
