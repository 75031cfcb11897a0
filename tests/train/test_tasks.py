"""Several labels an image, and numbers: measures as scikit-learn has them, runs and a study."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from attnzoo.errors import DataError, OptionError, StudyError
from attnzoo.study import parse_study, read_folder, run_study
from attnzoo.train import Watch, data_digest, open_data, train
from attnzoo.train.tasks import f1, loss_of, mae, mean_ap, r2


def test_measures_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 4)) < 0.3).astype(float)
    scores = (rng.normal(size=(60, 4)) + targets).round(1)  # with ties
    assert mean_ap(scores, targets) == pytest.approx(
        metrics.average_precision_score(targets, scores, average="macro"), abs=1e-9
    )
    assert f1(scores, targets) == pytest.approx(
        metrics.f1_score(targets, scores > 0, average="macro", zero_division=0), abs=1e-9
    )
    numbers, told = rng.normal(size=(2, 50, 2))
    assert mae(told, numbers) == pytest.approx(metrics.mean_absolute_error(numbers, told), abs=1e-9)
    assert r2(told, numbers) == pytest.approx(metrics.r2_score(numbers, told), abs=1e-9)


def test_labels_are_smoothed_and_numbers_are_not() -> None:
    outputs, targets = torch.tensor([[1.0, -2.0]]), torch.tensor([[1.0, 0.0]])
    smooth = torch.tensor([[0.95, 0.05]])
    assert loss_of("multilabel", outputs, targets, 0.1) == pytest.approx(
        float(F.binary_cross_entropy_with_logits(outputs, smooth))
    )
    assert float(loss_of("regression", outputs, targets, 0.1)) == pytest.approx(2.0)


def table(folder: Path, task: str) -> dict[str, Any]:
    """Pictures whose brightness, red and green, is what is asked for."""
    rng, rows = np.random.default_rng(1), []
    folder.mkdir()
    for i in range(40):
        bright = rng.integers(0, 2, 2)
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[..., :2] = 40 + 150 * bright + rng.integers(0, 30, (16, 16, 2))
        Image.fromarray(pixels).save(folder / f"{i}.png")
        names = ";".join(name for name, b in zip(("red", "green"), bright, strict=True) if b)
        rows.append((f"{i}.png", names if task == "multilabel" else bright.sum() / 2))
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return {"name": "table", "root": str(folder / "table.csv"), "size": 16, "task": task}


def spec(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    recipe = {"epochs": 6, "batch_size": 8, "device": "cpu", "lr": 0.01}
    return {"backbone": "training:tiny_net", "data": data, "train": recipe, **changes}


def test_several_labels_are_learned(tmp_path: Path) -> None:
    data = table(tmp_path / "images", "multilabel")
    opened = open_data(data)
    assert opened.classes == ["green", "red"]
    assert set(opened.test.targets.flatten().tolist()) == {0.0, 1.0}
    result = train(spec(data, keep="best"), tmp_path / "run")
    assert result.map > 0.8
    assert 0 <= result.f1 <= 1
    assert result.top1 is None
    assert "the best of 6 on the test images" in result.kept


def test_numbers_are_learned(tmp_path: Path) -> None:
    data = table(tmp_path / "images", "regression")
    result = train(spec(data), tmp_path / "run")
    assert result.mae < 0.35
    assert result.r2 > 0
    lines = (tmp_path / "images" / "table.csv").read_text().splitlines()
    (tmp_path / "images" / "table.csv").write_text("\n".join([*lines[:-1], "39.png,0.7"]))
    assert data_digest(open_data(data)) != data_digest(open_data({**data, "split": "by seed"}))
    (tmp_path / "images" / "table.csv").write_text("\n".join([*lines[:-1], "39.png,many"]))
    with pytest.raises(DataError, match="line 41: label is 'many', which is no number"):
        open_data(data)


def test_what_is_about_classes_is_refused(tmp_path: Path) -> None:
    data = table(tmp_path / "images", "regression")
    wrong = spec(data)
    wrong["train"]["mixup"] = 0.2
    with pytest.raises(OptionError, match="mixup is about one class an image"):
        train(wrong)


@pytest.mark.parametrize(("task", "metric"), [("multilabel", "map"), ("regression", "mae")])
def test_the_metric_of_a_study_follows_its_data(tmp_path: Path, task: str, metric: str) -> None:
    content = {
        **spec(table(tmp_path / "images", task)),
        "seeds": [0, 1],
        "backbones": ["training:tiny_net"],
        "variants": [{"policy": "pre-pool", "block": "se"}],
        "controls": False,
        "measure": False,
    }
    content["train"]["epochs"] = 1
    del content["backbone"]
    assert parse_study(content).metric == metric
    with pytest.raises(StudyError, match=f"metric: 'top1' is none.* There are: {metric}, "):
        parse_study({**content, "metric": "top1"})
    run_study(content, tmp_path / "study", watch=Watch())
    _, records = read_folder(tmp_path / "study")
    assert len(records) == 4
    page = (tmp_path / "study" / "report.md").read_text()
    assert {"map": "mAP %", "mae": "MAE ×100"}[metric] in page
    assert "## Verdicts" in page
    curves = (tmp_path / "study" / "figures" / "curves-training-tiny_net.svg").read_text()
    assert {"map": "test mAP, %", "mae": "test loss"}[metric] in curves
