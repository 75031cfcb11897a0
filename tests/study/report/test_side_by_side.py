"""`attnzoo report` of single runs: what differs, their numbers, and what to beware of."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from studies import result

from attnzoo.cli import main
from attnzoo.errors import StudyError
from attnzoo.study import runs_in, side_by_side
from attnzoo.train import RunSpec

DATA = {"name": "folder", "root": "/somewhere/photos"}


def leave(folder: Path, top1: float | None = 0.5, digest: str = "16", **spec: object) -> Path:
    """A run's folder as `attnzoo train` would have left it."""
    content = {
        **{"backbone": "net", "data": DATA, "digests": {"data": digest}},
        **{"variant": {"policy": "auto", "block": "se"}},
        **spec,
    }
    run = RunSpec.model_validate(content)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(run.model_dump_json())
    told = result(run.variant.title, run.train.seed, top1, weights="w.pth", balanced=0.25)
    (folder / "result.json").write_text(told.model_dump_json())
    (folder / "metrics.csv").write_text("epoch,test_top1\n1,0.5\n")
    return folder


def test_settings_that_differ_are_told_and_places_are_none(tmp_path: Path) -> None:
    one = leave(tmp_path / "one")
    two = leave(
        tmp_path / "two",
        **{"train": {"seed": 3}, "variant": {}, "data": {**DATA, "root": "elsewhere"}},
    )
    found = side_by_side(runs_in([one, two, one]))
    assert dict(found.settings) == {
        "variant.name": ("–", "plain"),
        "variant.policy": ("auto", "–"),
        "variant.block": ("se", "–"),
        "variant.start": ("identity", "–"),
        "train.seed": ("0", "3"),
    }
    assert len(found.notes) == 1
    assert "another seed may turn their order round" in found.notes[0]
    assert side_by_side(runs_in([one])).notes == ()


@pytest.mark.parametrize("change", [{"digest": "14"}, {"data": {**DATA, "size": 32}}])
def test_other_pictures_are_no_comparison(change: dict[str, object], tmp_path: Path) -> None:
    found = side_by_side(runs_in([leave(tmp_path / "one"), leave(tmp_path / "two", **change)]))
    assert "accuracies are about different things" in found.notes[0]


def test_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    leave(tmp_path / "runs" / "one")
    leave(tmp_path / "runs" / "two", top1=None, train={"lr": 3.0})
    assert main(["report", "runs", "--csv", "all.csv"]) == 0
    out = capsys.readouterr().out
    assert "1  net       auto + se     0  trained  50.0%     25.0%" in out
    assert "2: runs/two" in out
    assert ["train.lr", "0.001", "3.0"] in [line.split() for line in out.splitlines()]
    assert "two diverged: " in out
    with open("all.csv", newline="") as file:
        assert [row["run"] for row in csv.DictReader(file)] == ["one", "two"]
    assert main(["report", "runs/one", "--latex", "x.tex", "--out", "x"]) == 2
    assert "--latex, --out: of studies" in capsys.readouterr().err


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs" / "s").mkdir(parents=True)
    (tmp_path / "runs" / "s" / "study.json").write_text("{}")
    with pytest.raises(StudyError, match=r"no finished run.* It holds studies: .*runs/s\.$"):
        runs_in([tmp_path / "runs"])
    broken = leave(tmp_path / "broken")
    (broken / "result.json").write_text("{")
    with pytest.raises(StudyError, match="is damaged"):
        runs_in([broken])
