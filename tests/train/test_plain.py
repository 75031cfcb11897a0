"""Plain data sets of one's own go into `fit` and, by a function's name, into runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from training import recipe, tiny_net

from attnzoo.errors import AttnzooError, DataError, OptionError, UnknownNameError
from attnzoo.train import fit, image_data, open_data, train


class Squares(Dataset[Any]):
    """Bright and dark images, with noise drawn on the way."""

    classes = ("dark", "bright")

    def __init__(self, count: int, kind: str = "tensor") -> None:
        self.count = count
        self.kind = kind

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, int]:
        label = index % 2
        if self.kind == "picture":
            return Image.new("RGB", (20, 24), (200, 180, 160) if label else (20, 30, 40)), label
        return torch.rand(3, 16, 16) * 0.1 + label, label


def own_data(count: int = 32, kind: str = "tensor") -> tuple[Any, ...]:
    return Squares(count, kind), Squares(8, kind), Squares(16, kind)


def only_one() -> Any:
    return Squares(3)


def test_fit_takes_a_pair_of_plain_data_sets() -> None:
    torch.manual_seed(0)
    model = tiny_net(num_classes=2)
    result = fit(model, (Squares(64), Squares(16)), recipe(lr=0.01, epochs=3))
    assert result.epochs[-1]["test_top1"] == 1.0


def test_what_a_data_set_draws_depends_on_the_key_alone() -> None:
    data = image_data(Squares(8), Squares(8))
    assert torch.equal(data.train[0, 1, 3][0], data.train[0, 1, 3][0])
    assert not torch.equal(data.train[0, 1, 3][0], data.train[0, 2, 3][0])
    assert data.classes == ["dark", "bright"]
    assert data.counts == {"train": [4, 4], "test": [4, 4]}
    assert data.sample(1).picture.dtype == np.uint8


def test_a_function_of_yours_with_a_validation_split() -> None:
    spec = {"name": "own", "function": "test_plain:own_data", "options": {"count": 24}}
    data = open_data(spec)
    assert (len(data.train), len(data.validation), len(data.test)) == (24, 8, 16)
    run = {"backbone": "training:tiny_net", "data": spec, "train": {"epochs": 1, "batch_size": 8}}
    assert train(run).status == "finished"


def test_pictures_of_a_function_are_prepared_by_the_options() -> None:
    options = {"kind": "picture"}
    spec = {"name": "own", "function": "test_plain:own_data", "options": options, "size": 16}
    data = open_data({**spec, "mean": [0.5] * 3, "std": [0.5] * 3})
    image, label = data.test[0, 0, 1]
    assert (image.shape, label) == ((3, 16, 16), 1)
    assert image[0].mean() == pytest.approx((200 / 255 - 0.5) / 0.5, abs=0.01)
    assert data.classes == ["dark", "bright"]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


NUMBERS = TensorDataset(torch.zeros(4, 3, 16, 16), torch.tensor([0, 1, 2, 5]))


@pytest.mark.parametrize(
    ("train_set", "classes", "says"),
    [
        (Stream(), None, "map-style data set"),
        (TensorDataset(torch.zeros(4, 3, 16, 16)), None, "not an image and its class"),
        (TensorDataset(torch.zeros(4, 3, 8, 16), torch.zeros(4)), None, "not square"),
        (TensorDataset(torch.zeros(4, 3, 8, 8).int(), torch.zeros(4)), None, "floating-point"),
        ([], None, "is empty"),
        (NUMBERS, ["a", "b", "c"], r"classes \[5\] are none of 3"),
    ],
)
def test_what_is_no_data_set_says_why(train_set: Any, classes: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        image_data(train_set, train_set, classes=classes)


def test_what_is_no_pair_says_so() -> None:
    with pytest.raises(OptionError, match=r"fit: data is a Squares. .* \(train, test\)"):
        fit(tiny_net(), Squares(4), recipe())


@pytest.mark.parametrize(
    ("function", "kind", "says"),
    [
        ("test_plain:only_one", DataError, r"must return \(train, test\)"),
        ("test_plain:own_dat", UnknownNameError, "data 'test_plain:own_dat'.*'own_data'"),
        ("own_data", OptionError, "function"),
    ],
)
def test_a_function_that_does_not_do(function: str, kind: type[AttnzooError], says: str) -> None:
    with pytest.raises(kind, match=says):
        open_data({"name": "own", "function": function})
