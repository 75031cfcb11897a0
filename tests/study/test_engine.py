"""Studies as folders: nothing finished is repeated, nothing half-done is taken for finished."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from studies import STUDY, Log
from training import make_folder

from attnzoo.errors import DataError, StudyError
from attnzoo.study import parse_study, read_folder, run_study
from attnzoo.train import Watch


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study. Tests only read it."""
    folder = tmp_path_factory.mktemp("study")
    run_study(STUDY, folder, watch=Watch())
    return folder


def test_a_study_gives_one_row_a_run(done: Path) -> None:
    with (done / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["seed"]) for row in rows] == [
        ("plain", "0"),
        ("pre-pool + se", "0"),
        ("plain", "1"),
        ("pre-pool + se", "1"),
    ]
    for row in rows:
        assert 0 <= float(row["top1"]) <= 1
        assert int(row["parameters"]) > 0
        assert int(row["macs"]) > 0
        assert float(row["seconds"]) > 0
        assert (done / "runs" / row["run"] / "result.json").exists()
    assert [int(row["sites"]) for row in rows] == [0, 1, 0, 1]
    starts = {row["seed"]: row["backbone_hash"] for row in rows}
    assert len(set(starts.values())) == 2
    assert all(row["backbone_hash"] == starts[row["seed"]] for row in rows)


def test_no_half_written_file_is_left(done: Path) -> None:
    assert not list(done.rglob("*.partial"))
    assert sorted(entry.name for entry in done.iterdir()) == [
        ".attnzoo.json",
        "comparisons.csv",
        "contrasts.json",
        "data.json",
        "figures",
        "report.html",
        "report.md",
        "results.csv",
        "runs",
        "study.json",
    ]


def test_finished_runs_are_not_repeated(done: Path) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in (done / "runs").rglob("*") if path.is_file()
    }
    log = Log()
    outcome = run_study(STUDY, done, watch=log)
    assert log.names == []
    assert (outcome.repeated, len(outcome.records)) == (0, 4)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_an_interrupted_study_goes_on_where_it_was(tmp_path: Path, done: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_study(STUDY, tmp_path, watch=Log(stop_at=3))
    assert len(read_folder(tmp_path)[1]) == 2
    assert len(list((tmp_path / "runs").glob(".*.partial"))) == 1
    log = Log()
    assert run_study(STUDY, tmp_path, watch=log).repeated == 2
    assert ["seed 1" in name for name in log.names] == [True, True]
    assert not list(tmp_path.rglob("*.partial"))

    def numbers(folder: Path) -> list[tuple[Any, ...]]:
        return [(r.result.top1, r.result.test_loss, r.result.gamma) for r in read_folder(folder)[1]]

    assert numbers(tmp_path) == numbers(done)


def test_a_run_without_its_result_file_is_not_finished(tmp_path: Path) -> None:
    study = {**STUDY, "seeds": [0]}
    first = run_study(study, tmp_path, watch=Watch()).records[0]
    (first.folder / "result.json").unlink()
    log = Log()
    run_study(study, tmp_path, watch=log)
    assert len(log.names) == 1


def test_a_changed_study_runs_what_changed(tmp_path: Path) -> None:
    small = {**STUDY, "seeds": [0], "variants": ["plain"]}
    run_study(small, tmp_path, watch=Watch())
    log = Log()
    outcome = run_study({**STUDY, "seeds": [0]}, tmp_path, watch=log)
    assert len(log.names) == 1
    assert len(outcome.records) == 2
    log = Log()
    slower = {**small, "train": {**STUDY["train"], "lr": 0.5}}
    outcome = run_study(slower, tmp_path, watch=log)
    assert len(log.names) == 1
    assert [record.spec.train.lr for record in outcome.records] == [0.5]


def test_a_diverged_run_does_not_stop_the_study(tmp_path: Path) -> None:
    hot = {"epochs": 2, "batch_size": 16, "optimizer": "sgd", "lr": 1e30, "warmup_epochs": 0}
    study = {**STUDY, "train": hot, "seeds": [0]}
    outcome = run_study(study, tmp_path, watch=Watch())
    assert [record.result.status for record in outcome.records] == ["diverged"] * 2
    assert "stopped: the loss was" in outcome.report.read_text()
    assert run_study(study, tmp_path, watch=Watch()).repeated == 0


def test_what_cannot_run_is_said_before_anything_runs(tmp_path: Path) -> None:
    study = {
        **STUDY,
        "backbones": ["training:tiny_net", "torchvision/vgg11", "torchvision/resnet81"],
        "variants": ["plain", {"policy": "transition", "block": "se"}],
    }
    with pytest.raises(StudyError) as error:
        run_study(study, tmp_path / "out", watch=Watch())
    text = str(error.value)
    assert "tiny_net, transition + se: " in text
    assert "torchvision/vgg11 fails on images of 16×16" in text
    assert "'torchvision/resnet81'" in text
    assert not (tmp_path / "out").exists()


def flat_scores(num_classes: int) -> Any:
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, num_classes, 1), nn.Flatten())


def test_scores_of_a_wrong_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"must return scores of shape \(N, 10\)"):
        run_study({**STUDY, "backbones": ["test_engine:flat_scores"]}, tmp_path / "out")


def test_missing_data_are_said_before_anything_runs(tmp_path: Path) -> None:
    study = {**STUDY, "data": {"name": "folder", "root": str(tmp_path / "none")}}
    with pytest.raises(DataError, match="does not exist"):
        run_study(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_images_and_backbones_of_other_sizes(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", {"cat": 6, "dog": 6})
    study = {
        **STUDY,
        "data": {"name": "folder", "root": str(root), "size": 8},
        "train": {"epochs": 1, "batch_size": 4, "device": "cpu"},
        "backbones": [{"name": "training:tiny_net", "size": 12, "options": {"width": 4}}],
        "seeds": [0],
    }
    outcome = run_study(study, tmp_path / "out", watch=Watch())
    assert [record.result.status for record in outcome.records] == ["finished"] * 2
    plain = outcome.records[0].result
    assert plain.parameters == 3 * 4 * 9 + 2 * 4 + 4 * 4 * 9 + 4 + 16 * 2 + 2
    assert "12×12 pixels" in outcome.report.read_text()


def test_without_a_watch_there_are_progress_bars(tmp_path: Path) -> None:
    out = io.StringIO()
    study = {**STUDY, "seeds": [0], "variants": ["plain"], "name": "quiet"}
    run_study(study, tmp_path, console=Console(file=out))
    assert "plain, seed 0: top-1" in out.getvalue()


def test_a_study_without_folder_goes_under_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = parse_study({**STUDY, "name": "here", "seeds": [0], "variants": ["plain"]})
    assert run_study(study, watch=Watch()).folder == Path("runs/here")
    assert (tmp_path / "runs" / "here" / "report.html").exists()
