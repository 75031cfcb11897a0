"""Images from a folder: what is wrong is named; draws depend on the key alone."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training import make_folder

from attnzoo.errors import DataError
from attnzoo.train.folder import FolderPictures, find_splits
from attnzoo.train.pictures import PictureOptions

BOTH = {"train": None, "test": None}


def test_classes_and_files(tmp_path: Path) -> None:
    classes, files = find_splits(make_folder(tmp_path, {"cat": 3, "dog": 2}), BOTH)
    assert classes == ["cat", "dog"]
    assert [label for _, label in files["train"]] == [0, 0, 0, 1, 1]


def test_a_limit_is_spread_over_the_classes(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"a": 8, "b": 8, "c": 2})
    limits = {"train": 8, "test": None}
    chosen = find_splits(root, limits, seed=0)[1]["train"]
    assert Counter(label for _, label in chosen) == {0: 3, 1: 3, 2: 2}
    assert find_splits(root, limits, seed=0)[1]["train"] == chosen
    assert find_splits(root, limits, seed=1)[1]["train"] != chosen


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_splits(tmp_path / "nothing", BOTH)


def test_no_split_says_what_is_there(tmp_path: Path) -> None:
    make_folder(tmp_path, {"cat": 1, "dog": 1}, ("train", "tests"))
    with pytest.raises(DataError, match="no 'test'") as error:
        find_splits(tmp_path, BOTH)
    assert "Did you mean 'tests'" in str(error.value)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "test" / "emu").mkdir()
    with pytest.raises(DataError, match="emu"):
        find_splits(tmp_path, BOTH)


def test_an_empty_split_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path, {"cat": 1, "dog": 1}, ("train",))
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="test"):
        find_splits(tmp_path, BOTH)


def test_classes_that_differ_are_named(tmp_path: Path) -> None:
    make_folder(tmp_path, {"cat": 1, "dog": 1}, ("train",))
    make_folder(tmp_path, {"cat": 1, "emu": 1}, ("test",))
    with pytest.raises(DataError, match="only in test: emu; only in train: dog"):
        find_splits(tmp_path, BOTH)


def test_one_class_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one class, 'cat'"):
        find_splits(make_folder(tmp_path, {"cat": 2}), BOTH)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"cat": 2, "dog": 2})
    (root / "train" / "cat" / "0.png").write_bytes(b"no image")
    images = FolderPictures(find_splits(root, BOTH)[1]["train"], PictureOptions(size=8))
    with pytest.raises(DataError, match=r"0\.png: cannot be read"):
        images[0, 0, 0]


def test_draws_depend_on_the_key_and_leave_the_generators_alone(tmp_path: Path) -> None:
    files = find_splits(make_folder(tmp_path, {"cat": 2, "dog": 2}), BOTH)[1]["train"]
    images = FolderPictures(files, PictureOptions(size=8), training=True)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first, label = images[0, 0, 1]
    assert label == 0
    assert first.shape == (3, 8, 8)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    np.testing.assert_array_equal(states[2], np.random.get_state()[1])
    torch.rand(5), random.random(), np.random.rand()
    assert torch.equal(first, images[0, 0, 1][0])
    assert not torch.equal(first, images[0, 1, 1][0])
    assert not torch.equal(first, images[1, 0, 1][0])


def test_a_test_image_is_the_central_crop(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"cat": 1, "dog": 1})
    images = FolderPictures(find_splits(root, BOTH)[1]["test"], PictureOptions(size=10))
    with Image.open(root / "test" / "cat" / "0.png") as image:
        middle = np.asarray(image)[1:11]
    np.testing.assert_array_equal(images.picture(0), middle)
