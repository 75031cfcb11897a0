"""Accuracy by class, against counts written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from trained import Run
from training import make_folder

from attnzoo.errors import DataError
from attnzoo.train import open_data, train
from attnzoo.trained import Evaluation, evaluate, open_network


def test_the_shares_are_those_of_the_confusion() -> None:
    found = Evaluation(("a", "b", "c"), np.array([[8, 2, 0], [1, 1, 0], [0, 0, 0]]), 1.0, None)
    assert (found.images, found.top1, found.chance) == (12, 9 / 12, 10 / 12)
    assert found.recall == [0.8, 0.5, None]
    assert found.precision == [8 / 9, 1 / 3, None]
    assert found.balanced == pytest.approx(0.65)


def test_it_finds_what_the_run_found(run: Run) -> None:
    result = train(run.spec, run.folder)
    data = open_data(run.spec["data"])
    found = evaluate(open_network(run.folder), data, batch_size=5, device="cpu")
    assert found.top1 == pytest.approx(result.top1)
    assert found.loss == pytest.approx(result.test_loss, rel=1e-5)
    images, labels = next(iter(data.test_batches(100)))
    with torch.no_grad():
        best = open_network(run.folder).model(images).argmax(1)
    for (row, column), count in np.ndenumerate(found.confusion):
        assert count == int(((labels == row) & (best == column)).sum())


def test_other_classes_are_refused(run: Run, tmp_path) -> None:
    root = make_folder(tmp_path, {"cat": 1, "yak": 1})
    with pytest.raises(DataError, match=r"3 classes .* the data have 2"):
        evaluate(open_network(run.folder), open_data({"name": "folder", "root": str(root)}))
