"""Reports: what they show, that they need nothing but themselves, and that they come again."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pages import Page
from rich.console import Console
from studies import MEASURED as STUDY
from studies import Log
from training import make_folder

from attnzoo.errors import StudyError
from attnzoo.study import read_folder, run_study, study_table, write_report
from attnzoo.study.numbers import study_summaries
from attnzoo.study.report.sheets import result_cells
from attnzoo.study.report.wording import capacity
from attnzoo.study.runs.failures import note_failure
from attnzoo.train import Watch


def test_the_report_fetches_nothing(done: Path) -> None:
    source = (done / "report.html").read_text()
    page = Page(source)
    assert page.fetched
    assert all(value.startswith(("data:", "#")) for value in page.fetched)
    assert not re.search(r"https?://|//\w+\.\w+/|@import|url\((?!#)", source)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"\bon\w+=", source)  # no code at all, so none that fails


def test_the_report_shows_numbers_plots_and_pictures(done: Path) -> None:
    page = Page((done / "report.html").read_text())
    for record in read_folder(done)[1]:
        assert record.result.variant in page.text
    net = "training:tiny_net"
    costs = ("parameters", "MACs", "latency", "memory")
    fronts = [f"pareto-{cost}-{net}" for cost in costs]
    confusions = [f"confusion-{variant}-{net}" for variant in ("plain", "pre-pool + se")]
    assert page.drawings == ["effects", "accuracy", *confusions, *fronts, f"curves-{net}"]
    assert page.tags.count("img") == 9  # eight of the data, one above the attention maps
    assert "Does attention help a tiny net?" in page.text
    assert "95% interval" in page.text
    assert "policy: pre-pool, block: se" in page.text
    assert "torch " in page.text


def test_intervals_of_accuracies_are_possible_ones(done: Path) -> None:
    """Of two seeds that differ, Student's interval goes far beyond 0 and 100."""
    (row, *_) = study_summaries(*read_folder(done))
    assert result_cells(replace(row, low=-2.9, high=4.1))[1] == "[0.0, 100.0]"
    assert result_cells(replace(row, low=0.25, high=0.5))[1] == "[25.0, 50.0]"
    assert result_cells(replace(row, low=None, high=None))[1] == ""


def test_names_are_escaped(done: Path) -> None:
    assert "<study>" not in (done / "report.html").read_text()
    assert "tiny <study>" in Page((done / "report.html").read_text()).text


def test_svg_identifiers_are_unique(done: Path) -> None:
    source = (done / "report.html").read_text()
    ids = re.findall(r'\bid="([^"]+)"', source)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', source))
    for pair in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', source):
        assert (pair[0] or pair[1]) in ids


def test_the_report_judges(done: Path) -> None:
    page = Page((done / "report.html").read_text())
    assert "not finished" not in page.text
    for part in ("Verdicts", "no evidence", "p permutation", "p Holm", "more seeds", "points: "):
        assert part in page.text
    with (done / "comparisons.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["variant"], row["baseline"], row["seeds"]) == ("pre-pool + se", "plain", "2")
    assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])
    assert float(row["p_corrected"]) == float(row["p"])
    assert float(row["p_permutation"]) >= 0.5
    assert row["verdict"] == "no evidence"


def test_a_margin_is_told_everywhere(tmp_path: Path, done: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "copy")
    asked = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**asked, "same_within": 30}))
    for i, record in enumerate(read_folder(folder)[1]):
        told = record.result.model_copy(update={"top1": 0.1 * i**1.1})
        (record.folder / "result.json").write_text(told.model_dump_json())
    page = Page(write_report(folder).read_text())
    for part in (
        "within 30 points of each other count as the same",
        "p Holm / same",
        "more seeds / same",
    ):
        assert part in page.text
    assert "band: ±30" in page.text
    assert re.search(r"\d+ / \d+ / \d+\n", page.text)
    assert "same_within: 30.0" in page.text
    with (folder / "comparisons.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["margin"]) == 0.3
    assert 0 < float(row["p_same"]) == float(row["p_same_corrected"]) < 1
    chances = [float(row[f"probability_{name}"]) for name in ("worse", "same", "better")]
    assert sum(chances) == pytest.approx(1)


def test_a_study_that_screens_says_so(tmp_path: Path, done: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "copy")
    asked = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**asked, "correction": "fdr"}))
    page = Page(write_report(folder).read_text())
    for part in ("This study screens", "Benjamini and Hochberg's correction over the one", "p FDR"):
        assert part in page.text
    assert "p Holm" not in page.text
    out = io.StringIO()
    Console(file=out, width=180).print(study_table(folder))
    assert "p (FDR)" in out.getvalue()


def test_controls_are_run_and_compared_with(tmp_path: Path) -> None:
    study = {**STUDY, "controls": ["conv"], "train": {**STUDY["train"], "epochs": 1}}
    outcome = run_study(study, tmp_path, watch=Watch())
    control = "control: pre-pool + conv like se"
    assert [r.result.variant for r in outcome.records[:3]] == ["plain", "pre-pool + se", control]
    with (tmp_path / "comparisons.csv").open(newline="") as file:
        pairs = [(row["variant"], row["baseline"]) for row in csv.DictReader(file)]
    assert pairs == [("pre-pool + se", "plain"), ("pre-pool + se", control), (control, "plain")]
    assert f"pre-pool + se against {control}: " in (tmp_path / "report.md").read_text()
    out = io.StringIO()
    Console(file=out, width=200).print(study_table(tmp_path))
    assert "vs control" in out.getvalue()


def test_one_seed_is_no_verdict(tmp_path: Path) -> None:
    text = run_study({**STUDY, "seeds": [0]}, tmp_path, watch=Watch()).report.read_text()
    assert "One seed a variant" in text
    assert "95% interval" not in text
    assert "Verdicts" not in text
    told = (tmp_path / "report.md").read_text()
    assert "One seed a variant" in told
    assert "| verdict" not in told
    assert "## Verdicts" not in told


def test_the_report_comes_again_from_the_folder_alone(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", {"cat": 4, "dog": 4})
    study = {
        **STUDY,
        "data": {"name": "folder", "root": str(root), "size": 12},
        "train": {"epochs": 1, "batch_size": 4, "device": "cpu"},
        "seeds": [0],
    }
    run_study(study, tmp_path / "out", watch=Watch())
    (tmp_path / "images").rename(tmp_path / "gone")
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    before = (moved / "report.html").read_text()
    (moved / "report.html").unlink()
    (moved / "results.csv").unlink()
    again = write_report(moved).read_text()
    unstamped = [re.sub(r"written .*", "", text) for text in (before, again)]
    assert unstamped[0] == unstamped[1]
    assert (moved / "results.csv").exists()


def test_an_unfinished_study_has_a_report_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_study(STUDY, tmp_path, watch=Log(stop_at=1))
    text = write_report(tmp_path).read_text()
    assert "of 4" in text
    assert "The study is not finished" in text


def test_a_run_that_failed_is_told(tmp_path: Path, done: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "copy")
    run = read_folder(folder)[1][1]
    shutil.rmtree(run.folder)
    note_failure(run.folder, run.spec, "RuntimeError: the disk is full.")
    for text in (write_report(folder).read_text(), (folder / "report.md").read_text()):
        assert "pre-pool + se, seed 0 failed: RuntimeError: the disk is full." in text
        assert "The study is not finished, 3 of 4 runs are done" in text


def test_no_study_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no study"):
        write_report(tmp_path)
    (tmp_path / "study.json").write_text('{"name": 3')
    with pytest.raises(StudyError, match="damaged"):
        write_report(tmp_path)


def test_the_terminal_table(done: Path) -> None:
    out = io.StringIO()
    Console(file=out, width=180).print(study_table(done))
    text = out.getvalue()
    for part in (
        *("training:tiny_net", "plain", "pre-pool + se", "±", "["),
        *("p (Holm)", "verdict", "no evidence", "more seeds"),
    ):
        assert part in text


def test_costs_stand_beside_accuracy(done: Path) -> None:
    page = Page((done / "report.html").read_text())
    assert {"ms an image", "over plain", "images/s", "kept, MB"} <= set(page.cells)
    assert "peak, MB" not in page.cells  # no CUDA here
    assert re.search(r"cpu, \d+ threads?, 3 turns, and 3 of batches of 16, 20", page.text)
    # The plain network is the cheapest by every count.
    plain = page.text[page.text.index("Cost beside accuracy") :].split("pre-pool + se")[0]
    assert plain.count("★") >= 2


def test_a_study_that_was_not_measured_says_so(tmp_path: Path, done: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "copy")
    (folder / "costs.json").unlink()
    page = Page(write_report(folder).read_text())
    assert "Latency, throughput and memory were not measured." in page.text
    assert "images/s" not in page.cells
    assert len(page.drawings) == 7  # the fronts of latency and memory are missing


def test_controls_of_another_size_are_pointed_out(mapped: Path) -> None:
    study, records = read_folder(mapped)
    (told,) = capacity(study, study_summaries(study, records))
    assert told == (
        "training:tiny_net, pre-pool + eca: the control 'control: pre-pool + conv like eca' "
        "has +33 parameters against +11, so it is larger than the attention."
    )
    for file in ("report.html", "report.md"):
        assert "has +33 parameters against +11" in (mapped / file).read_text()


def test_environments_of_runs_are_told(tmp_path: Path, done: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "copy")
    for i, run in enumerate(sorted((folder / "runs").iterdir())):
        git = {"commit": f"c{i % 2}", "dirty": i == 1}
        noted = {"git": git, "command": ["attnzoo", "ablate"], "host": None, "gpus": []}
        (run / "environment.json").write_text(json.dumps([noted]))
    page = Page(write_report(folder).read_text())
    assert re.search(r"git commit\s*(c0 / c1|c1 / c0)", page.text)
    assert re.search(r"command\s*attnzoo ablate", page.text)
    assert re.search(r"uncommitted changes\s*no / yes", page.text)
    assert "host" not in page.text
    assert "GPUs" not in page.text
