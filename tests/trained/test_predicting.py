"""Predictions: the same as the run's own tests, in a table that is there whole or not at all."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from trained import Run

from attnzoo.errors import DataError
from attnzoo.train import open_data
from attnzoo.trained import find_pictures, open_network, predict, write_predictions


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_are_prepared_as_the_test_images_were(
    workers: int, run: Run, pictures: list[Path]
) -> None:
    network = open_network(run.folder)
    images = open_data(run.spec["data"]).test_images(range(len(pictures)))
    with torch.no_grad():
        wanted = network.model(images).softmax(1)
    found = list(predict(network, pictures, batch_size=5, workers=workers))
    assert [row.picture for row in found] == [str(path) for path in pictures]
    torch.testing.assert_close(torch.tensor([row.probabilities for row in found]), wanted)
    assert [row.label for row in found] == [network.classes[i] for i in wanted.argmax(1)]


def test_the_table(run: Run, pictures: list[Path], tmp_path: Path) -> None:
    network = open_network(run.folder)
    path = tmp_path / "new" / "predictions.csv"
    assert write_predictions(predict(network, pictures), network.classes, path) == len(pictures)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["picture", "label", "probability", "cat", "dog", "emu"]
    for row in rows:
        assert float(row[row["label"]]) == float(row["probability"])
        assert sum(float(row[name]) for name in network.classes) == pytest.approx(1, abs=1e-5)


def test_a_broken_picture_leaves_no_table(run: Run, pictures: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    network = open_network(run.folder)
    out = tmp_path / "predictions.csv"
    with pytest.raises(DataError, match=r"broken\.png"):
        write_predictions(predict(network, [*pictures, broken]), network.classes, out)
    assert [entry.name for entry in tmp_path.iterdir()] == ["broken.png"]


def test_folders_are_searched(run: Run, pictures: list[Path], tmp_path: Path) -> None:
    assert find_pictures([run.data / "test"]) == pictures
    assert find_pictures([pictures[3], run.data / "test" / "emu"])[0] == pictures[3]
    with pytest.raises(DataError, match="holds no picture"):
        find_pictures([tmp_path])
    with pytest.raises(DataError, match="there is no picture and no folder"):
        find_pictures([tmp_path / "nowhere.jpg"])
