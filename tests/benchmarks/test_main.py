"""Options after `--` go to one benchmark."""

import sys

import pytest

from benchmarks.__main__ import main


@pytest.mark.parametrize("names", [[], ["startup", "demo"]])
def test_options_of_a_benchmark_need_its_name(
    names: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tools/bench", *names, "--", "--only", "java"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "need the name of one benchmark" in capsys.readouterr().err
