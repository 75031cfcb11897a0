"""The metric that a study settles, and what it keeps of its predictions, up to the page."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from studies import STUDY, Log, made_up
from training import make_folder

from attnzoo.errors import StudyError
from attnzoo.study import parse_study, read_folder, run_study, write_report
from attnzoo.study.numbers import study_summaries
from attnzoo.train import PREDICTIONS, Predictions, RunSpec, save_predictions

CONTENT: dict[str, Any] = {**STUDY, "seeds": [0, 1, 2, 3], "name": "metric"}


def with_measures(folder: Path, metric: str, **values: tuple[float, float]) -> Path:
    """A study whose plain and wrapped runs have these values, with some noise."""
    made_up(folder, {**CONTENT, "metric": metric}, lambda run: 0.5)
    for record in read_folder(folder)[1]:
        result = record.result
        noise = 0.002 * ((result.seed * 7 + len(result.variant)) % 5)
        told = {name: pair[bool(result.policy)] + noise for name, pair in values.items()}
        changed = result.model_copy(update=told)
        (record.folder / "result.json").write_text(changed.model_dump_json())
    return folder


@pytest.mark.parametrize(
    ("metric", "values", "verdict"),
    [
        ("macro_f1", {"macro_f1": (0.3, 0.4)}, "better"),
        ("balanced", {"balanced": (0.4, 0.3)}, "worse"),
        ("nll", {"test_loss": (1.2, 1.1)}, "better"),
        ("nll", {"test_loss": (1.1, 1.2)}, "worse"),
    ],
)
def test_verdicts_are_on_the_metric(tmp_path: Path, metric: str, values: Any, verdict: str) -> None:
    folder = with_measures(tmp_path / "study", metric, **values)
    plain, ours = study_summaries(*read_folder(folder))
    ((before, after),) = values.values()
    assert plain.score == pytest.approx(before, abs=0.01)
    assert ours.difference is not None
    assert ours.difference.mean == pytest.approx(after - before, abs=0.01)
    assert ours.difference.verdict == verdict
    write_report(folder)
    page = (folder / "report.md").read_text()
    assert f"| {verdict} |" in page
    assert "The study file settled that verdicts are on" in page
    assert (folder / "comparisons.csv").read_text().count(f",{verdict},") == 1


def test_a_metric_that_runs_of_before_lack_is_said(tmp_path: Path) -> None:
    made_up(tmp_path, {**CONTENT, "metric": "macro_f1"}, lambda run: 0.5)
    with pytest.raises(StudyError, match="has no macro F1"):
        write_report(tmp_path)


def test_a_wrong_metric_is_a_fault() -> None:
    with pytest.raises(StudyError, match=r"metric: 'balance' is none\. Did you mean 'balanced'"):
        parse_study({**CONTENT, "metric": "balance"})


def answered(run: RunSpec) -> Predictions:
    """On eight images of two classes: attention alone has the first right, plain the second."""
    labels = np.array([0, 1] * 4)
    predicted = labels.copy()
    predicted[1 if run.variant.policy else 0] ^= 1
    predicted[2 + run.train.seed] ^= 1
    ones = np.full(8, 0.6)
    return Predictions(2, np.arange(8), labels, predicted, np.log(ones), ones)


def test_the_page_shows_which_images_set_two_apart(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data", {"cat": 8, "dog": 8})
    content = {**CONTENT, "data": {"name": "folder", "root": str(data), "size": 16}}
    folder = tmp_path / "study"
    run_study({**content, "train": {"epochs": 0, "batch_size": 8}}, folder, watch=Log())
    study, records = read_folder(folder)
    for record in records:
        save_predictions(answered(record.spec), record.folder / PREDICTIONS)
    (folder / "report.md").unlink()  # so that it is written anew
    run_study({**content, "train": {"epochs": 0, "batch_size": 8}}, folder, watch=Log())
    page = (folder / "report.md").read_text()
    name = study.variants[1].title
    assert f"{name} has 1 right at all seeds that plain has right at none" in page
    assert f"plain has 1 right at all seeds that {name} has right at none" in page
    assert "cat (dog)" in page
    with Image.open(folder / "figures" / "contrasts-1-training-tiny_net.jpg") as shown:
        assert shown.size == (96, 96)
    html = (folder / "report.html").read_text()
    for heading in ("Image by image", "Other measures", "Confusions", "set them apart"):
        assert heading in html
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(0 <= float(row["macro_f1"]) <= 1 for row in rows)
