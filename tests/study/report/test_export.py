"""Files for others: what is in them, and that the study's folder stays as it was."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from studies import STUDY, made_up

from attnzoo.cli import main
from attnzoo.study import Rules, export_study, read_folder, write_results
from attnzoo.study.numbers import study_summaries
from attnzoo.train import RunSpec

CONTENT = {
    **STUDY,
    "seeds": [0, 1, 2],
    "backbones": ["training:tiny_net", "timm/resnet18"],
    "variants": [{"policy": "auto", "block": "se"}],
    "controls": ["conv"],
    "same_within": 1,
}


def top1(run: RunSpec) -> float:
    offset = {"se": 0.1, "conv": 0.001}.get(run.variant.block if run.variant.policy else "", 0)
    return 0.5 + offset + 0.02 * run.train.seed + 0.001 * (run.train.seed * len(run.id) % 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up study. Tests only read it."""
    folder = tmp_path_factory.mktemp("study")
    made_up(folder, CONTENT, top1)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_spreadsheet_has_numbers(folder: Path, tmp_path: Path) -> None:
    (path,) = export_study(folder, csv=tmp_path / "new" / "table.csv")
    study, records = read_folder(folder)
    rows = study_summaries(study, records)
    told = rows_of(path)
    assert [entry["variant"] for entry in told] == [row.variant for row in rows]
    for entry, row in zip(told, rows, strict=True):
        assert float(entry["score"]) == row.score
        assert float(entry["deviation"]) == row.deviation
        assert entry["control"] == str("conv" in row.variant)
        if row.difference:
            assert float(entry["vs_plain_mean"]) == row.difference.mean
            assert entry["vs_plain_verdict"] == row.difference.verdict


def test_results_are_numbers_too(folder: Path) -> None:
    text = {"backbone", "variant", "policy", "block", "start", "status", "message", "places"}
    text |= {"backbone_hash", "device", "run"}
    text |= {"weights", "weights_digest", "weights_note", "kept", "input"}
    for row in rows_of(write_results(folder)):
        for name, value in row.items():
            if name not in text and value:
                float(value)


def test_a_program_reads_everything(folder: Path, tmp_path: Path) -> None:
    (path,) = export_study(folder, json=tmp_path / "study.json")
    told = json.loads(path.read_text())
    study, records = read_folder(folder)
    rows = study_summaries(study, records)
    assert told["settled"]["same_within"] == 1
    assert len(told["variants"]) == len(rows) == 6
    assert len(told["comparisons"]) == len(told["sentences"]) == 6
    first = next(row for row in rows if row.difference)
    assert told["comparisons"][0]["p"] == first.difference.p
    assert Rules.of(study).margin == told["comparisons"][0]["margin"] == 0.01


def test_figures_are_files_of_two_kinds(folder: Path, tmp_path: Path) -> None:
    written = export_study(folder, figures=tmp_path / "figures")
    drawn = {path.stem for path in written}
    assert {"effects", "accuracy", "cost", "curves-timm-resnet18"} <= drawn
    assert {path.suffix for path in written} == {".pdf", ".svg"}
    assert sorted(written) == sorted((tmp_path / "figures").iterdir())
    for path in written:
        if path.suffix == ".pdf":
            assert path.read_bytes().startswith(b"%PDF")
        else:
            ElementTree.fromstring(path.read_text())


def test_a_pdf_is_in_ink(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "pdf.compression", 0)
    export_study(folder, figures=tmp_path)
    source = (tmp_path / "effects.pdf").read_bytes()
    assert b"0.1137254902 0.1294117647 0.1490196078" in source  # ink
    for stand_in in (b"0.00392156", b"0.01568627", b"0.02745098"):
        assert stand_in not in source


def test_the_folder_stays_as_it_was(folder: Path, tmp_path: Path) -> None:
    def stamps() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    before = stamps()
    export_study(
        folder,
        latex=tmp_path / "t.tex",
        csv=tmp_path / "t.csv",
        json=tmp_path / "t.json",
        figures=tmp_path / "figures",
    )
    assert stamps() == before
    assert not list(tmp_path.rglob(".*"))


def test_the_command_line_writes_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table.tex"
    assert main(["report", str(folder), "--latex", str(out)]) == 0
    assert f"Written: {out}" in capsys.readouterr().out
    assert r"\toprule" in out.read_text()


def test_a_comparison_has_none(folder: Path, tmp_path: Path) -> None:
    arguments = ["report", str(folder), str(folder), "--csv", str(tmp_path / "t.csv")]
    assert main(arguments) != 0
