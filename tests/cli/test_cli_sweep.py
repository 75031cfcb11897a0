"""`attnzoo sweep` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnzoo.cli import main
from attnzoo.sweep import Row


def test_the_table_and_what_it_comes_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def swept(out: Path, pattern: str, **options: Any) -> list[Row]:
        assert (out, pattern) == (tmp_path / "t.csv", "timm/a*")
        assert (options["policies"], options["workers"]) == (("auto",), 3)
        options["watch"](1, 2, "timm/a")
        real = {"result": "ok", "device": "cpu", "sites": 2}
        return [
            Row("timm/a", "f", "cnn", "auto", **real, build_seconds=0.5, wrap_seconds=0.25),
            Row("timm/b", "f", "cnn", "auto", **real, build_seconds=0.1, wrap_seconds=0.25),
            Row("timm/c", "f", "cnn", "auto", result="broken", reason="it changed"),
        ]

    monkeypatch.setattr("attnzoo.sweep.sweep", swept)
    out = str(tmp_path / "t.csv")
    code = main(["sweep", "timm/a*", "--out", out, "--policy", "auto", "--workers", "3"])
    shown = capsys.readouterr().out
    assert code == 0
    (line,) = [line for line in shown.splitlines() if line.startswith("auto")]
    assert line.split() == ["auto", "timm", "cnn", "3", "3", "2"]
    assert "took 0.300 s on average, to wrap it 0.250 s; wrapping took longer on 1 of 2" in shown
    assert "broken: timm/c auto: it changed" in shown


def test_an_interrupted_sweep_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("attnzoo.sweep.sweep", interrupted)
    assert main(["sweep", "timm/a*"]) == 130
    assert "What is done is in coverage.csv" in " ".join(capsys.readouterr().err.split())


def test_a_wrong_policy_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "t.csv")
    assert main(["sweep", "timm/test_resnet", "--out", out, "--policy", "pre-pol"]) == 1
    assert "no policy is called 'pre-pol'" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
