"""Descriptions of data and of training: what is wrong is named, with what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training import make_folder

from attnzoo.errors import DataError, OptionError
from attnzoo.train import DigitsData, FolderData, TrainRecipe, open_data
from attnzoo.train.config import faults, parse


def test_digits_by_name() -> None:
    data = open_data({"name": "cluttered-digits", "size": 32, "train": 20, "test": 10})
    assert (len(data.train), len(data.test), data.size) == (20, 10, 32)
    sample = data.sample(3)
    left, top, right, bottom = sample.box
    assert sample.picture.shape == (32, 32, 3)
    assert sample.picture[top:bottom, left:right].max() > 200
    assert sample.label in data.classes


def test_a_folder_by_name(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"cat": 6, "dog": 6})
    data = open_data(FolderData(root=str(root), size=8, test=4))
    train, test = data.loaders(TrainRecipe(batch_size=5))
    batches = list(train)
    assert [tuple(images.shape) for images, _ in batches] == [(5, 3, 8, 8)] * 2
    assert sum(len(labels) for _, labels in test) == 4
    assert {data.sample(index).label for index in range(4)} == {"cat", "dog"}
    assert data.sample(0).box is None


def test_workers_read_the_same_images(tmp_path: Path) -> None:
    root = str(make_folder(tmp_path, {"cat": 4, "dog": 4}))
    batches = [
        list(
            open_data(FolderData(root=root, size=8, workers=n)).loaders(TrainRecipe(batch_size=4))[
                0
            ]
        )
        for n in (0, 2)
    ]
    for (images, labels), (again, same) in zip(*batches, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"name": "cluttered-digit"}, "Did you mean 'cluttered-digits'"),
        (
            {"size": 32},
            "needs a name, 'cluttered-digits', 'folder', 'table', 'torchvision', 'timm' or 'own'",
        ),
        (
            {"name": "cluttered-digits", "sizes": 32},
            "data.sizes: there is no such key. Did you mean 'size'",
        ),
        (
            {"name": "cluttered-digits", "size": 4},
            "data.size: should be greater than or equal to 16 (given: 4)",
        ),
        ({"name": "cluttered-digits", "digit": [0.9, 0.2]}, "0 < smallest ≤ largest ≤ 1"),
        ({"name": "folder"}, "data.root: this key is required"),
    ],
)
def test_wrong_descriptions(spec: dict[str, object], says: str) -> None:
    with pytest.raises(OptionError) as error:
        open_data(spec)
    assert says in str(error.value)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_data(FolderData(root=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epoch": 3}, "train.epoch: there is no such key. Did you mean 'epochs'"),
        ({"lr": 0}, "train.lr: should be greater than 0 (given: 0)"),
        ({"lr": float("nan")}, "train.lr"),
        ({"optimizer": "adam"}, "'adamw' or 'sgd'"),
        ({"epochs": 2, "warmup_epochs": 3}, "warmup_epochs=3.0 is longer than epochs=2"),
        ({"label_smoothing": 1}, "less than 1"),
        ({"precision": "fp64"}, "'bf16'"),
    ],
)
def test_wrong_recipes(options: dict[str, object], says: str) -> None:
    with pytest.raises(OptionError) as error:
        parse(TrainRecipe, options, "train")
    assert says in str(error.value)


def test_all_faults_at_once() -> None:
    assert len(faults(TrainRecipe, {"epoch": 3, "lr": -1, "batch_size": 0}, "train")) == 3
    assert "must be a mapping" in faults(TrainRecipe, 3, "train")[0]


def test_a_wrong_option_in_python_is_explained_as_in_a_file() -> None:
    with pytest.raises(OptionError) as error:
        TrainRecipe(loss=1)
    assert "TrainRecipe.loss: there is no such key" in str(error.value)
    assert "pydantic" not in str(error.value)
    with pytest.raises(OptionError, match=r"FolderData\.size"):
        FolderData(root="x", size=2)


def test_recipes_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainRecipe().lr = 1.0
    assert parse(DigitsData, DigitsData(size=32), "data").size == 32


def test_pictures_are_test_images() -> None:
    data = open_data({"name": "cluttered-digits", "size": 16, "train": 2, "test": 2, "seed": 4})
    images, _ = next(iter(data.loaders(TrainRecipe(batch_size=2))[1]))
    brightness = data.sample(1).picture[:, :, 0] / 255.0
    assert (
        torch.corrcoef(
            torch.stack([images[1, 0].flatten(), torch.tensor(brightness).float().flatten()])
        )[0, 1]
        > 0.99
    )
