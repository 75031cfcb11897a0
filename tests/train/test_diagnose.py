"""A loss that is no number: which layer went wrong first, and the last good weights are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training import DATA, Ends, network, recipe, tiny_net

import attnzoo
from attnzoo.train import Interrupted, fit, open_data


class Breaks(nn.Module):
    """Its output or its gradient stops being a number once what it has counted is so much."""

    def __init__(self, at: int, what: str, value: float = float("nan")) -> None:
        super().__init__()
        self.at, self.what, self.value = at, what, value
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))  # falls back as well

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        self.count += 1
        if self.count < self.at:
            return x * self.weight
        if self.what == "output":
            return x * self.weight + self.value
        y = x * self.weight
        if y.requires_grad:
            y.register_hook(lambda gradient: gradient * self.value)
        return y


def broken(at: int, what: str, value: float = float("nan")) -> nn.Module:
    torch.manual_seed(0)
    net = tiny_net()
    return nn.Sequential(net[:4], Breaks(at, what, value), net[4:])


@pytest.mark.parametrize(
    ("at", "value", "name"), [(3, float("nan"), "nan"), (12, float("inf"), "inf")]
)
def test_an_output(at: int, value: float, name: str) -> None:
    model, healthy = broken(at, "output", value), broken(99, "output")
    result = fit(model, open_data(DATA), recipe(epochs=5))
    assert result.status == "diverged"
    epoch = (at - 1) // 3 + 1
    assert f"at step {at} (epoch {epoch}); first at 1 (Breaks), whose output held {name} in " in (
        result.message
    )
    assert f"step {at};" in result.message
    images = result.images_per_second * result.train_seconds
    assert images == pytest.approx(16 * max(at, 3 * epoch))  # seen with the last look
    assert len(result.epochs) == epoch - 1
    # The weights are those after the last good step.
    watch = Ends(step=at - 2)  # heard after the next one
    with pytest.raises(Interrupted):
        fit(healthy, open_data(DATA), recipe(epochs=5), watch=watch)
    for key, tensor in healthy.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key


def test_a_gradient_shows_in_the_next_loss() -> None:
    model = broken(5, "gradient")
    result = fit(model, open_data(DATA), recipe(epochs=4))
    assert (
        "the loss was nan at step 6 (epoch 2); first at 1 (Breaks), whose gradient (weight) "
        in (result.message)
    )
    assert "held nan in step 5" in result.message
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_weights_that_overflow() -> None:
    model = network()
    hot = recipe(epochs=3, optimizer="sgd", lr=1e38, warmup_epochs=0, momentum=0, weight_decay=1)
    result = fit(model, open_data(DATA), hot)
    assert result.status == "diverged"
    assert "first at" in result.message
    assert "lower lr=1e+38" in result.message
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


class OverflowingBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 1e38))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.scale) * 1e10


def test_the_attention_is_named(registries: None) -> None:
    attnzoo.register_block("overflowing")(OverflowingBlock)
    model = attnzoo.wrap(tiny_net(), "pre-pool", "overflowing", start="paper", example=(3, 16, 16))
    message = fit(model, open_data(DATA), recipe()).message
    assert "(OverflowingBlock, in the attention 'overflowing'), whose output held inf" in message


def test_images_that_are_no_numbers() -> None:
    data = open_data(DATA)
    draw = data.train.draw

    def broken_draw(keys: Any) -> Any:
        batch = draw(keys)
        batch.images[0, 0, 0] = float("nan")
        return batch

    data.train.draw = broken_draw
    message = fit(tiny_net(), data, recipe()).message
    assert "the images of step 1 held nan already" in message


def test_what_does_not_happen_again_is_said_so(tmp_path: Path) -> None:
    class Once(nn.Module):
        count = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += self.training
            return x * float("nan") if self.count == 5 and self.training else x

    model = nn.Sequential(tiny_net(), Once())
    result = fit(model, open_data(DATA), recipe(epochs=3), folder=tmp_path)
    assert "it was not so when the steps before it were repeated" in result.message
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 2
