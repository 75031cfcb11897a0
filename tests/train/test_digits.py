"""Cluttered digits: the same for the same key, boxes right, nothing of the test set in training."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from attnzoo.errors import AttnzooError, OptionError
from attnzoo.train import ClutteredDigits
from attnzoo.train.extras import MissingExtraError, require


def test_an_image_depends_on_its_key_alone() -> None:
    digits = ClutteredDigits("train", size=32)
    keys = [(3, epoch, index) for epoch in (0, 1) for index in range(6)]
    together = digits.draw(keys)
    backwards = ClutteredDigits("train", size=32).draw(keys[::-1])
    np.testing.assert_array_equal(together.images, backwards.images[::-1])
    alone = digits.draw([keys[4]])
    np.testing.assert_array_equal(together.images[4], alone.images[0])
    assert together.boxes[4].tolist() == alone.boxes[0].tolist()


@pytest.mark.parametrize("other", [(4, 0, 0), (3, 1, 0), (3, 0, 1)])
def test_another_seed_epoch_or_index_is_another_image(other: tuple[int, int, int]) -> None:
    digits = ClutteredDigits("train", size=32)
    assert not np.array_equal(digits.draw([(3, 0, 0)]).images, digits.draw([other]).images)


def test_global_random_state_does_not_matter() -> None:
    np.random.seed(1)
    first = ClutteredDigits("test", size=32).draw(range(3)).images
    np.random.seed(2)
    np.testing.assert_array_equal(first, ClutteredDigits("test", size=32).draw(range(3)).images)


def test_the_box_holds_the_ink_and_touches_it() -> None:
    batch = ClutteredDigits("train", size=48, clutter=0).draw(range(200))
    ink = batch.images > 0.2
    for image, (left, top, right, bottom) in zip(ink, batch.boxes, strict=True):
        assert 0 <= left < right <= 48
        assert 0 <= top < bottom <= 48
        outside = image.copy()
        outside[top:bottom, left:right] = False
        assert not outside.any()
        inside = image[top:bottom, left:right]
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert edge.any()


def test_clutter_changes_neither_digit_nor_box() -> None:
    clear = ClutteredDigits("train", size=48, clutter=0).draw(range(50))
    full = ClutteredDigits("train", size=48, clutter=6).draw(range(50))
    assert clear.boxes.tolist() == full.boxes.tolist()
    assert (full.images >= clear.images).all()
    assert full.images.sum() > 1.2 * clear.images.sum()


def test_labels_and_sizes_are_those_of_the_source() -> None:
    batch = ClutteredDigits("train", size=64, digit=(0.5, 0.5), clutter=0).draw(range(50))
    source = load_digits()
    assert batch.labels.tolist() == source.target[batch.sources].tolist()
    for image, box, index in zip(batch.images, batch.boxes, batch.sources, strict=True):
        rows, columns = np.nonzero(source.images[index] > 0.2 * 16)
        cells = columns.max() - columns.min() + 1, rows.max() - rows.min() + 1
        enlarged = box[2] - box[0], box[3] - box[1]
        # 4 pixels a cell; bilinear enlargement blurs each edge by up to half a cell.
        for pixels, cell in zip(enlarged, cells, strict=True):
            assert abs(pixels - 4 * cell) <= 4
        assert image.max() <= 1


def test_no_source_digit_is_in_both_splits() -> None:
    seen = {}
    for split in ("train", "test"):
        batch = ClutteredDigits(split, size=32, clutter=6).draw(range(3000))
        seen[split] = set(batch.sources.tolist()) | set(batch.fragment_sources.ravel().tolist())
        assert not (batch.fragment_sources == batch.sources[:, None]).any()
    assert not seen["train"] & seen["test"]
    assert len(seen["train"]) + len(seen["test"]) == len(load_digits().target)


def test_every_class_is_in_both_splits() -> None:
    for split in ("train", "test"):
        labels = ClutteredDigits(split, size=32).draw(range(1000)).labels
        assert np.bincount(labels, minlength=10).min() > 60


def test_what_a_loader_gets_is_normalised() -> None:
    images, labels = ClutteredDigits("train", size=64).__getitems__([(0, 0, i) for i in range(200)])
    assert images.shape == (200, 3, 64, 64)
    assert labels.dtype.is_signed
    assert abs(images.mean()) < 0.25
    assert 0.7 < images.std() < 1.3


@pytest.mark.parametrize(
    "options",
    [{"split": "val"}, {"size": 8}, {"clutter": -1}, {"digit": (0.8, 0.5)}, {"digit": (0.5, 2)}],
)
def test_wrong_options(options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="cluttered digits"):
        ClutteredDigits(**options)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'attnzoo\[study\]'") as error:
        require("sklearn.datasets", "scikit-learn")
    assert isinstance(error.value, AttnzooError)
    assert isinstance(error.value, ImportError)
