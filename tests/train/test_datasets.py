"""Data sets by name: found, opened, checked, and read like a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets import Imagenette
from training import make_folder

from attnzoo.errors import DataError, OptionError, UnknownNameError
from attnzoo.train import TimmData, TorchvisionData, TrainRecipe, open_data
from attnzoo.train.datasets import NamedSplit, _checked, torchvision_names


def write_mnist(root: Path, labels: dict[str, list[int]]) -> Path:
    """torchvision's MNIST in its own format: as many pictures as there are labels."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, wanted in labels.items():
        pixels = rng.integers(0, 256, (len(wanted), 28, 28), dtype=np.uint8)
        head = b"".join(n.to_bytes(4, "big") for n in (0x803, len(wanted), 28, 28))
        (raw / f"{split}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = b"".join(n.to_bytes(4, "big") for n in (0x801, len(wanted)))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(head + bytes(wanted))
    return root


def mnist(root: Path, **options: Any) -> TorchvisionData:
    return TorchvisionData(dataset="MNIST", root=str(root), size=8, **options)


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    return write_mnist(tmp_path, {"train": [*range(10)] * 4, "t10k": [*range(10)] * 2})


def test_a_data_set_of_torchvisions(ten: Path) -> None:
    data = open_data(mnist(ten, train=20))
    assert (len(data.classes), len(data.train), len(data.test)) == (10, 20, 20)
    batches = list(data.loaders(TrainRecipe(batch_size=10))[0])
    assert [tuple(images.shape) for images, _ in batches] == [(10, 3, 8, 8)] * 2
    labels = torch.cat([labels for _, labels in batches])
    assert labels.bincount().tolist() == [2] * 10  # spread evenly over the classes
    assert [data.sample(index).label for index in range(12)] == [*data.classes, *data.classes[:2]]


def test_workers_read_the_same(ten: Path) -> None:
    options = {"auto_augment": "rand-m9-mstd0.5", "random_erasing": 0.5, "color_jitter": 0.4}
    batches = [
        list(open_data(mnist(ten, workers=n, **options)).loaders(TrainRecipe(batch_size=8))[0])
        for n in (0, 2)
    ]
    for (images, labels), (again, same) in zip(*batches, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same)


def test_a_data_set_with_splits_called_train_and_val(tmp_path: Path) -> None:
    synsets = list(Imagenette._WNID_TO_CLASS)
    make_folder(tmp_path / "imagenette2", dict.fromkeys(synsets, 3), ("train", "val"))
    spec = {"name": "torchvision", "dataset": "Imagenette", "root": str(tmp_path), "size": 8}
    for folder in (tmp_path / "imagenette2").glob("*/*/*.png"):
        folder.rename(folder.with_suffix(".JPEG"))
    data = open_data(spec)
    assert data.classes[0] == "tench"
    assert (len(data.train), len(data.test)) == (30, 30)
    (tmp_path / "imagenette2" / "train" / synsets[0] / "0.JPEG").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of 30 files"):
        open_data(spec)


def test_timms_names(ten: Path, tmp_path: Path) -> None:
    by_timm = open_data(TimmData(dataset="torch/mnist", root=str(ten), size=8))
    by_torchvision = open_data(mnist(ten))
    assert len(by_timm.train) == len(by_torchvision.train) == 40
    assert torch.equal(by_timm.train[0, 0, 3][0], by_torchvision.train[0, 0, 3][0])
    assert len(by_timm.test) == 20


def test_a_folder_as_timm_has_it(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"cat": 3, "dog": 2}, ("train", "val"))
    data = open_data(TimmData(dataset="", root=str(root), size=8))
    assert (data.classes, len(data.train), len(data.test)) == (["cat", "dog"], 5, 5)
    (root / "val" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of 5 files .*\n- .*0\.png"):
        open_data(TimmData(dataset="", root=str(root), size=8))


def test_names_are_torchvisions_classification_sets() -> None:
    names = torchvision_names()
    assert {"CIFAR10", "Flowers102", "ImageNet", "Food101", "SVHN"} <= set(names)
    others = {"CocoDetection", "VOCSegmentation", "Kinetics", "FakeData", "Sintel"}
    others |= {"CelebA", "Cityscapes", "Kitti", "WIDERFace"}
    assert not others & set(names)


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ({"dataset": "cifar10"}, UnknownNameError, "Did you mean 'CIFAR10'"),
        ({"dataset": "Flowers"}, UnknownNameError, "Did you mean 'Flowers102'"),
        ({"dataset": "CIFAR10"}, DataError, "With download: true it is fetched"),
        ({"dataset": "MNIST", "options": {"targets": 1}}, DataError, "no option 'targets'"),
        ({"dataset": "MNIST", "auto_augment": "random"}, OptionError, "rand-m9-mstd0.5"),
        ({"dataset": "MNIST", "crop_scale": [0.5, 2]}, OptionError, "0 < smallest"),
        ({"name": "timm", "dataset": "torch/cifar11"}, UnknownNameError, "'torch/cifar10'"),
        ({"name": "timm", "dataset": "hfds/cifar10"}, DataError, "Save it as a folder"),
        ({"name": "timm", "dataset": "torch/mnist"}, DataError, "not found"),
    ],
)
def test_what_is_wrong_is_named(
    spec: dict[str, Any], error: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as raised:
        open_data({"name": "torchvision", "root": str(tmp_path), **spec})
    assert says in str(raised.value)


def test_a_class_missing_from_test_is_named(tmp_path: Path) -> None:
    write_mnist(tmp_path, {"train": [*range(10)], "t10k": [0, 1, 2, 3, 4, 5, 6, 7, 9]})
    with pytest.raises(DataError, match="test has no picture of: 8 - eight"):
        open_data(mnist(tmp_path))


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        ([0, 1], [], "test is empty"),
        ([0, 2], [0, 1], r"train: classes \[2\] .* none of the 2"),
        ([0, 0], [0], "has one class"),
    ],
)
def test_labels_that_cannot_be(train: list[int], test: list[int], says: str) -> None:
    splits = (
        NamedSplit(name, [], labels, ["cat", "dog"], None)
        for name, labels in (("train", train), ("test", test))
    )
    with pytest.raises(DataError, match=says):
        _checked(*splits)
