"""The loop: paired batches, schedule, records, and what stops it."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from training import DATA, recipe, seen_by, tiny_net

import attnzoo
from attnzoo.errors import DataError, OptionError, UnknownNameError
from attnzoo.train import MissingExtraError, Watch, fit, open_data
from attnzoo.train.loop import FitResult


class NoisyBlock(nn.Module):
    """Draws from the global generator in every forward."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + 0.1 * torch.rand_like(x)


def test_variants_see_the_same_batches(registries: None) -> None:
    attnzoo.register_block("noisy")(NoisyBlock)
    plain = seen_by(tiny_net())
    torch.rand(17)
    wrapped = attnzoo.wrap(tiny_net(), "pre-pool", "noisy", example=(3, 16, 16))
    attended = seen_by(wrapped)
    assert len(plain) == len(attended) == 6
    assert all(torch.equal(a, b) for a, b in zip(plain, attended, strict=True))
    assert not torch.equal(plain[0], plain[3])  # another epoch has other images


def test_another_seed_sees_other_batches() -> None:
    assert not torch.equal(seen_by(tiny_net())[0], seen_by(tiny_net(), seed=1)[0])


def test_training_twice_gives_the_same_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        model = tiny_net(dropout=0.5)
        fit(model, open_data(DATA), recipe())
        states.append(model.state_dict())
        torch.rand(3)
    for key, tensor in states[0].items():
        assert torch.equal(tensor, states[1][key]), key


def test_it_learns() -> None:
    data = open_data({**DATA, "train": 320, "test": 128, "clutter": 0, "digit": [0.9, 1.0]})
    result = fit(tiny_net(), data, recipe(epochs=4, lr=0.03))
    assert result.status == "finished"
    assert result.epochs[-1]["test_top1"] > 0.3
    assert result.epochs[-1]["train_loss"] < result.epochs[0]["train_loss"]


def test_the_csv_is_the_result_row_by_row(tmp_path: Path) -> None:
    result = fit(tiny_net(), open_data(DATA), recipe(epochs=3), folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "tensorboard"]
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["3", "6", "9"]
    for row, epoch in zip(rows, result.epochs, strict=True):
        assert float(row["test_top1"]) == epoch["test_top1"]
        assert epoch["test_top1"] <= float(row["test_top5"]) <= 1
        assert row["gamma"] == ""


def test_the_reported_accuracy_is_that_of_the_model() -> None:
    data, model = open_data(DATA), tiny_net()
    result = fit(model, data, recipe())
    images, labels = data.test.__getitems__([(0, 0, index) for index in range(32)])
    best = model.eval()(images).topk(5).indices == labels[:, None]
    assert result.epochs[-1]["test_top1"] == pytest.approx(best[:, 0].float().mean().item())
    assert result.epochs[-1]["test_top5"] == pytest.approx(best.any(1).float().mean().item())


def test_warm_up_then_cosine() -> None:
    class Rates(Watch):
        def __init__(self) -> None:
            self.rates: list[float] = []

        def epoch(self, row: dict[str, object]) -> None:
            self.rates.append(row["lr"])

    watch = Rates()
    fit(tiny_net(), open_data(DATA), recipe(epochs=4, warmup_epochs=2, lr=0.4), watch=watch)
    # After epoch 1 of 2 of the warm-up the next step has 4/6 of the rate; then half a cosine.
    assert watch.rates == pytest.approx([0.4 * 4 / 6, 0.4, 0.2, 0.0])


def test_attention_opens_and_has_its_own_rate() -> None:
    def gamma(scale: float) -> float:
        torch.manual_seed(0)
        model = attnzoo.wrap(tiny_net(), "pre-pool", "se", example=(3, 16, 16))
        return fit(model, open_data(DATA), recipe(attention_lr_scale=scale)).epochs[-1]["gamma"]

    assert 0 < gamma(1) < gamma(10)


def test_frozen_layers_stay() -> None:
    model = attnzoo.wrap(tiny_net(), "pre-pool", "se", example=(3, 16, 16))
    first, last = model[0].weight.clone(), model[-2].weight.clone()
    fit(model, open_data(DATA), recipe(freeze="0"))
    assert torch.equal(model[0].weight, first)
    assert not torch.equal(model[-2].weight, last)


def test_freezing_an_unknown_path() -> None:
    with pytest.raises(UnknownNameError, match="layer9"):
        fit(tiny_net(), open_data(DATA), recipe(freeze="layer9"))


class Bomb(nn.Module):
    """Breaks its output in one of its training forwards."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.count = at, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += self.training
        return x * float("nan") if self.training and self.count == self.at else x


@pytest.mark.parametrize(("at", "epochs"), [(2, 0), (5, 1)])
def test_a_loss_that_is_no_number_stops_and_says_where(at: int, epochs: int) -> None:
    model = nn.Sequential(tiny_net(), Bomb(at))
    result = fit(model, open_data(DATA), recipe(epochs=4))
    assert result.status == "diverged"
    assert f"nan at step {at} (epoch {epochs + 1})" in result.message
    assert len(result.epochs) == epochs


def test_sgd_and_bfloat16_run() -> None:
    result = fit(tiny_net(), open_data(DATA), recipe(optimizer="sgd", precision="bf16", lr=0.01))
    assert result.status == "finished"
    assert result.images_per_second > 0


def test_a_batch_larger_than_the_data() -> None:
    with pytest.raises(DataError, match="batch_size=64 is more than the 48"):
        fit(tiny_net(), open_data(DATA), recipe(batch_size=64))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(OptionError, match="device='cuda' is not available"):
        fit(tiny_net(), open_data(DATA), recipe(device="cuda"))


def test_lightning_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(
        MissingExtraError, match=r"Lightning Fabric .* pip install 'attnzoo\[study\]'"
    ):
        fit(tiny_net(), open_data(DATA), recipe())


def test_watch_hears_every_step() -> None:
    class Count(Watch):
        steps = epochs = planned = 0

        def begin(self, name: str, steps: int) -> None:
            self.planned = steps

        def step(self, loss: float | None = None) -> None:
            self.steps += 1

        def epoch(self, row: dict[str, object]) -> None:
            self.epochs += 1

    watch = Count()
    assert isinstance(fit(tiny_net(), open_data(DATA), recipe(), watch=watch), FitResult)
    assert (watch.steps, watch.planned, watch.epochs) == (6, 6, 2)
