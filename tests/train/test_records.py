"""What a training logs, and where."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from tensorboardX.proto.event_pb2 import Event
from training import DATA, Ends, recipe, tiny_net

from attnzoo.train import Interrupted, MissingExtraError, fit, open_data


def events(folder: Path) -> list[tuple[str, int, float]]:
    """Tag, step and value of all scalars, read as TFRecords: length, its CRC, data, their CRC."""
    found = []
    for path in sorted(folder.glob("events.*")):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            data = data[16 + length :]
    return found


def test_tensorboard_gets_every_epoch_and_the_loss_between(tmp_path: Path) -> None:
    data = open_data({**DATA, "train": 16 * 23})
    result = fit(tiny_net(), data, recipe(epochs=2), folder=tmp_path)
    found = events(tmp_path / "tensorboard")
    top1 = [(step, value) for tag, step, value in found if tag == "epoch/test_top1"]
    rows = [(row["step"], pytest.approx(row["test_top1"])) for row in result.epochs]
    assert top1 == rows
    assert [step for tag, step, _ in found if tag == "step/loss"] == [10, 20, 23, 33, 43, 46]


def test_a_training_that_goes_on_logs_beside_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(tiny_net(), open_data(DATA), recipe(), folder=tmp_path, watch=Ends(epoch=1))
    fit(tiny_net(), open_data(DATA), recipe(), folder=tmp_path)
    found = events(tmp_path / "tensorboard")
    assert [step for tag, step, _ in found if tag == "epoch/test_loss"] == [3, 6]


class FakeRun:
    code = None

    def finish(self, code: int) -> None:
        self.code = code


class FakeLogger:
    made: ClassVar[list[FakeLogger]] = []

    def __init__(self, **options: Any) -> None:
        self.options, self.metrics, self.status = options, [], ""
        self._experiment = FakeRun()
        self.made.append(self)

    def log_hyperparams(self, options: dict[str, Any]) -> None:
        self.recipe = options

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.metrics.append((step, metrics))

    def finalize(self, status: str) -> None:
        self.status = status


@pytest.mark.parametrize(("kind", "name"), [("wandb", "WandbLogger"), ("mlflow", "MLFlowLogger")])
def test_other_loggers_are_lightnings(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for package in ("lightning", "lightning.pytorch"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    home = ModuleType("lightning.pytorch.loggers")
    setattr(home, name, FakeLogger)
    monkeypatch.setitem(sys.modules, home.__name__, home)
    FakeLogger.made.clear()
    fit(tiny_net(), open_data(DATA), recipe(loggers=[kind]), folder=tmp_path, name="mine")
    (logger,) = FakeLogger.made
    assert "mine" in logger.options.values()
    assert logger.recipe["batch_size"] == 16
    assert (logger.status, logger._experiment.code) == ("success", 0)
    assert [step for step, metrics in logger.metrics if "epoch/test_top1" in metrics] == [3, 6]


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed_is_named_before_training(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("lightning", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"pip install lightning {kind}"):
        fit(tiny_net(), open_data(DATA), recipe(loggers=[kind]))


def test_without_tensorboards_writer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingExtraError, match=r"tensorboardX .*attnzoo\[study\]"):
        fit(tiny_net(), open_data(DATA), recipe(), folder=tmp_path)
