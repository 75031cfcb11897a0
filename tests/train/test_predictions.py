"""What a network says of the test images: kept as it was, and measured as other libraries do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training import DATA, network, recipe, spec

from attnzoo.train import (
    PREDICTIONS,
    Predictions,
    balanced,
    calibration_error,
    confusion,
    fit,
    macro_f1,
    nll,
    open_data,
    read_predictions,
    save_predictions,
    top1,
    train,
)


def drawn(seed: int, images: int = 200, classes: int = 7) -> tuple[Predictions, np.ndarray]:
    """Answers with the probabilities that they are from; the last class has no image."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes - 1, images)
    logits = rng.normal(size=(images, classes)) + 2 * np.eye(classes)[labels]
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = Predictions(
        classes,
        np.arange(images),
        labels,
        probability.argmax(1),
        np.log(probability[np.arange(images), labels]),
        probability.max(1),
    )
    return found, probability


@pytest.mark.parametrize("seed", range(3))
def test_measures_are_those_of_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    found, probability = drawn(seed)
    labels, called, classes = found.labels, found.predicted, range(found.classes)
    told = {
        top1: metrics.accuracy_score(labels, called),
        balanced: metrics.recall_score(
            labels, called, labels=np.unique(labels), average="macro", zero_division=0
        ),
        macro_f1: metrics.f1_score(labels, called, average="macro", zero_division=0),
        nll: metrics.log_loss(labels, probability, labels=classes),
    }
    for measure, expected in told.items():
        assert float(measure(found)) == pytest.approx(expected, abs=1e-9)
    assert (confusion(found) == metrics.confusion_matrix(labels, called, labels=classes)).all()


def test_calibration_error_is_that_of_scikit_learns_curve() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    found, _ = drawn(0)
    share, confidence = calibration.calibration_curve(found.right, found.confidence, n_bins=15)
    counts = np.histogram(found.confidence, np.linspace(0, 1, 16))[0]
    expected = (np.abs(share - confidence) * counts[counts > 0]).sum() / counts.sum()
    assert calibration_error(found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("measure", [top1, balanced, macro_f1, nll])
def test_a_weight_is_so_many_times_the_image(measure) -> None:
    found, _ = drawn(1)
    counts = np.random.default_rng(0).integers(0, 3, (4, len(found.labels)))
    for weights, told in zip(counts, measure(found, counts), strict=True):
        chosen = np.repeat(np.arange(len(weights)), weights)
        names = ("images", "labels", "predicted", "log_probability", "confidence")
        again = Predictions(found.classes, *(getattr(found, name)[chosen] for name in names))
        assert float(measure(again)) == pytest.approx(float(told), abs=1e-12)


def test_what_is_kept_is_read_again_in_few_bytes(tmp_path: Path) -> None:
    found, _ = drawn(2, images=5000)
    save_predictions(found, tmp_path / "kept.npz")
    again = read_predictions(tmp_path / "kept.npz")
    assert again is not None
    for name in ("images", "labels", "predicted"):
        assert (getattr(again, name) == getattr(found, name)).all()
    assert again.log_probability == pytest.approx(found.log_probability, rel=1e-6)
    assert (tmp_path / "kept.npz").stat().st_size < 10 * 5000
    (tmp_path / "kept.npz").write_bytes(b"PK no more")
    with pytest.raises(ValueError, match="damaged"):
        read_predictions(tmp_path / "kept.npz")


def test_a_run_keeps_what_its_numbers_are_from(tmp_path: Path) -> None:
    result = train(spec(), tmp_path / "run")
    found = read_predictions(tmp_path / "run" / PREDICTIONS)
    assert found is not None
    assert float(top1(found)) == result.top1
    assert float(balanced(found)) == pytest.approx(result.balanced)
    assert float(macro_f1(found)) == result.macro_f1
    assert float(nll(found)) == pytest.approx(result.test_loss, rel=1e-5)
    assert calibration_error(found) == pytest.approx(result.calibration_error, abs=1e-6)


def test_predictions_are_of_the_test_images_in_order() -> None:
    model, data = network(), open_data(DATA)
    found = fit(model, data, recipe()).predictions
    assert found is not None
    images, labels = next(iter(data.test_batches(32)))
    with torch.no_grad():
        logs = model.eval()(images).log_softmax(1)
    assert (found.labels == labels.numpy()).all()
    assert (found.predicted == logs.argmax(1).numpy()).all()
    told = -nn.functional.nll_loss(logs, labels, reduction="none")
    assert found.log_probability == pytest.approx(told.numpy(), abs=1e-5)
    assert (found.images == np.arange(32)).all()


def test_a_training_taken_up_after_its_last_epoch_has_predictions(tmp_path: Path) -> None:
    whole = fit(network(), open_data(DATA), recipe(), folder=tmp_path, leave_checkpoint=True)
    again = fit(network(), open_data(DATA), recipe(), folder=tmp_path)
    assert whole.predictions is not None
    assert again.predictions is not None
    assert (again.predictions.predicted == whole.predictions.predicted).all()
