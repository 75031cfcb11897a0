"""A damaged run is named and left out of the report, set aside, and done again; nothing else is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from before import BEFORE, old_study
from studies import STUDY, Log

from attnzoo.cli import main
from attnzoo.study import read_folder, run_study, write_report
from attnzoo.study.runs import damages
from attnzoo.train import RunSpec, train

RUN = "test_resnet.plain.seed1.f61e9256"
OTHER = "test_resnet.plain.seed0.7cffe642"


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _changed(**changes: object) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "binary": lambda path: path.write_bytes(os.urandom(64)),
    "nested": lambda path: path.write_text("[" * 5000),
    "folder": _folder,
    "another run's": lambda path: path.write_bytes(
        (path.parents[1] / OTHER / path.name).read_bytes()
    ),
}
DAMAGES["columns"] = lambda path: path.write_text("epoch,step\n1,2\n")
DAMAGES["words"] = lambda path: path.write_text("epoch,test_top1\n1,two\n")
IMPOSSIBLE = [
    *({"top1": 7.0}, {"top1": -1.0}, {"top1": None}, {"top1": float("nan")}, {"top5": 2}),
    *({"seconds": float("inf")}, {"parameters": 0}, {"macs": 0}, {"variant": "x"}, {"seed": 9}),
]


def _missing_one(folder: Path) -> None:
    """The report is written without the run and says so."""
    study, records = read_folder(folder)
    assert len(records) == 3
    (said,) = damages(folder, study, records)
    assert RUN in said
    write_report(folder)
    for name in ("report.html", "report.md"):
        assert RUN in (folder / name).read_text()
    assert (folder / "results.csv").read_text().count("\n") == 4


@pytest.mark.parametrize("name", ["result.json", "run.json"])
@pytest.mark.parametrize("damage", ["empty", "cut", "binary", "nested", "folder", "another run's"])
def test_a_report_is_written_without_a_damaged_run(tmp_path: Path, name: str, damage: str) -> None:
    folder = old_study(tmp_path / "study")
    DAMAGES[damage](folder / "runs" / RUN / name)
    _missing_one(folder)


@pytest.mark.parametrize("changes", IMPOSSIBLE, ids=str)
def test_a_result_that_cannot_be_true_is_damage(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = old_study(tmp_path / "study")
    _changed(**changes)(folder / "runs" / RUN / "result.json")
    study, records = read_folder(folder)
    assert (len(records), len(damages(folder, study, records))) == (3, 1)


def test_a_file_in_place_of_a_run_is_damage(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = old_study(tmp_path / "study")
    (folder / "runs" / RUN).rename(tmp_path / "gone")
    (folder / "runs" / RUN).write_text("mine")
    _missing_one(folder)
    assert main(["report", str(folder)]) == 0
    assert RUN in capsys.readouterr().out


def test_what_is_damaged_is_kept_and_the_run_is_done_again(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    run_study(STUDY, folder, watch=Log())
    before = (folder / "results.csv").read_text().splitlines()
    runs = sorted(path for path in (folder / "runs").iterdir() if path.is_dir())
    damaged = [
        *((runs[0], "result.json", b""), (runs[1], "run.json", b"{")),
        *((runs[2], "result.json", b'{"top1": 0.5}'), (runs[3], "metrics.csv", b"\0")),
    ]
    for run, name, content in damaged:
        (run / name).write_bytes(content)
    log = Log()
    assert run_study(STUDY, folder, watch=log).repeated == 3
    assert len(log.names) == 3
    after = (folder / "results.csv").read_text().splitlines()
    assert [line.split(",")[:12] for line in before] == [line.split(",")[:12] for line in after]
    for run, name, content in damaged[:3]:
        assert (run.with_name(f"{run.name}.aside1") / name).read_bytes() == content
    assert run_study(STUDY, folder, watch=log).repeated == 0


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("metrics.csv", "binary"), ("metrics.csv", "columns"), ("metrics.csv", "words")),
        *(("maps.npz", "empty"), ("maps.npz", "cut"), ("maps.npz", "folder")),
        *(("environment.json", "empty"), ("environment.json", "folder")),
    ],
)
def test_parts_that_cannot_be_read_are_left_out_and_named(
    tmp_path: Path, name: str, damage: str
) -> None:
    folder = old_study(tmp_path / "study")
    run = folder / "runs" / "test_resnet.post-residual+cbam.seed0.4abe6f5f"
    DAMAGES[damage](run / name)
    study, records = read_folder(folder)
    assert len(records) == 4
    (said,) = damages(folder, study, records)
    assert name in said
    write_report(folder)
    assert f"without {name}" in (folder / "report.md").read_text()


@pytest.mark.parametrize("name", ["data.json", "costs.json"])
@pytest.mark.parametrize("damage", ["empty", "nested", "folder"])
def test_damaged_notes_of_the_study_are_left_out_and_named(
    tmp_path: Path, name: str, damage: str
) -> None:
    folder = old_study(tmp_path / "study")
    DAMAGES[damage](folder / name)
    write_report(folder)
    assert f"{name} is damaged" in (folder / "report.md").read_text()


def test_a_damaged_note_of_a_failure_is_none(tmp_path: Path) -> None:
    folder = old_study(tmp_path / "study")
    partial = folder / "runs" / f".{RUN}.partial"
    (folder / "runs" / RUN).rename(partial)
    for content in (b"", b"{", b"\xff"):
        (partial / "failure.json").write_bytes(content)
        write_report(folder)


def test_an_unfinished_folder_that_is_no_folder_is_set_aside(tmp_path: Path) -> None:
    study = yaml.safe_load((BEFORE / "study.yaml").read_text())
    study |= {"variants": ["plain"], "measure": False}
    folder = old_study(tmp_path / "study")
    partial = folder / "runs" / f".{RUN}.partial"
    (folder / "runs" / RUN).rename(tmp_path / "gone")
    partial.write_text("mine")
    log = Log()
    assert run_study(study, folder, watch=log).failures == []
    assert (folder / "runs" / f".{RUN}.partial.aside1").read_text() == "mine"
    assert len(log.names) == 1


def test_a_run_alone_is_done_again_over_a_damaged_one(tmp_path: Path) -> None:
    run = RunSpec.model_validate_json((BEFORE / "study" / "runs" / RUN / "run.json").read_text())
    result = train(run, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{")
    assert train(run, tmp_path / "run").top1 == result.top1
    assert (tmp_path / "run.aside1" / "run.json").read_text() == "{"


def test_an_outcome_fits_on_a_screen_and_a_network_that_exits_is_a_failed_run(
    tmp_path: Path,
) -> None:
    study = {**STUDY, "backbones": ["training:tiny_net", "training:leaving_net"], "seeds": [0]}
    outcome = run_study({**study, "variants": ["plain"]}, tmp_path / "study", watch=Log())
    assert "sys.exit(7)" in outcome.failures[0].message
    assert len(outcome.records) == 1
    assert len(repr(outcome)) < 400
