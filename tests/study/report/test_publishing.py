"""A study to hand on: without weights, and with the same report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attnzoo.cli import main
from attnzoo.errors import StudyError
from attnzoo.study import publish_study, read_folder, run_study, write_report
from attnzoo.study.report.publishing import _handed_on
from attnzoo.study.runs import write_study
from attnzoo.train import RunSpec, Watch

SAID = ("results.csv", "comparisons.csv", "report.md")


def told(path: Path) -> str:
    """What a file says, but for when it was written."""
    return re.sub(r"(?m)^written .*$", "", path.read_text())


def test_the_copy_gives_the_same_report_and_holds_no_weights(mapped: Path, tmp_path: Path) -> None:
    report = publish_study(mapped, tmp_path / "copy")
    assert report == tmp_path / "copy" / "report.html"
    write_report(mapped)
    for name in SAID:
        assert told(tmp_path / "copy" / name) == told(mapped / name), name
    assert not list((tmp_path / "copy").rglob("*.safetensors"))
    assert not list((tmp_path / "copy").rglob("tensorboard"))
    assert list((tmp_path / "copy").rglob("maps.npz"))
    study, records = read_folder(tmp_path / "copy")
    assert len(records) == len(study.runs)
    assert not [record for record in records if record.damaged]
    # Its runs count as done.
    assert not run_study(study, tmp_path / "copy", watch=Watch()).repeated


def test_only_finished_studies_and_other_folders(done: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="the study's own folder"):
        publish_study(done, done)
    (tmp_path / "empty").mkdir()
    write_study(tmp_path / "empty", read_folder(done)[0])
    with pytest.raises(StudyError, match=r"none of the .* runs is finished"):
        publish_study(tmp_path / "empty", tmp_path / "copy")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "results.csv").write_text("mine")
    with pytest.raises(StudyError, match="did not write"):
        publish_study(done, tmp_path / "mine")
    assert (tmp_path / "mine" / "results.csv").read_text() == "mine"


def test_the_command(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(done), "--publish", str(tmp_path / "copy")]) == 0
    assert str(tmp_path / "copy" / "report.html") in capsys.readouterr().out.replace("\n", "")
    assert (tmp_path / "copy" / "study.json").is_file()


def test_paths_of_a_machine_are_left_out_and_the_run_is_the_same() -> None:
    run = RunSpec.model_validate(
        {
            "backbone": "timm/resnet18",
            "weights": "/home/me/weights/mine.safetensors",
            "data": {"name": "folder", "root": "/home/me/photos"},
            "digests": {"data": "1f", "weights": "2e"},
        }
    )
    handed = _handed_on(run)
    assert handed.data.model_dump()["root"] == "photos"
    assert handed.weights == "mine.safetensors"
    assert handed.id == run.id
