"""Mixup and CutMix: timm's, drawn from the key, so that variants mix alike."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from training import DATA, recipe, seen_by, tiny_net

import attnzoo
from attnzoo.train import TrainRecipe, fit, open_data
from attnzoo.train.mixing import make_mixing


def test_none_is_none() -> None:
    assert make_mixing(TrainRecipe(), 10) is None


@given(st.integers(0, 50), st.sampled_from([(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)]))
def test_targets_follow_the_images(step: int, alphas: tuple[float, float]) -> None:
    mix = make_mixing(TrainRecipe(mixup=alphas[0], cutmix=alphas[1], label_smoothing=0), 4)
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 16, 16).clone()
    labels = torch.arange(4)
    mixed, targets = mix(images.clone(), labels, (0, 0, step))
    # Image i is i everywhere, so its mean tells how much of it is in the mixture.
    share = (mixed.mean((1, 2, 3)) - labels.flip(0)) / (labels - labels.flip(0))
    expected = share[:, None] * F.one_hot(labels, 4) + (1 - share[:, None]) * F.one_hot(
        labels.flip(0), 4
    )
    torch.testing.assert_close(targets, expected, atol=1e-5, rtol=0)
    again, same = mix(images.clone(), labels, (0, 0, step))
    assert torch.equal(mixed, again)
    assert torch.equal(targets, same)


def test_steps_are_mixed_differently() -> None:
    mix = make_mixing(TrainRecipe(mixup=1.0), 4)
    images = torch.rand(4, 3, 8, 8)
    first, second = (mix(images.clone(), torch.arange(4), (0, 0, step))[0] for step in (0, 1))
    assert not torch.equal(first, second)


class DrawsBlock(nn.Module):
    """Draws from the global generator, as dropout does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + 0.1 * torch.rand_like(x)


def test_variants_see_the_same_mixtures(registries: None) -> None:
    attnzoo.register_block("draws")(DrawsBlock)
    options = {"mixup": 0.8, "cutmix": 1.0}
    plain = seen_by(tiny_net(), **options)
    torch.rand(3)
    wrapped = attnzoo.wrap(tiny_net(), "pre-pool", "draws", example=(3, 16, 16))
    attended = seen_by(wrapped, **options)
    assert all(torch.equal(a, b) for a, b in zip(plain, attended, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(plain, seen_by(tiny_net()), strict=True))


def test_smoothing_is_in_the_targets_once() -> None:
    mix = make_mixing(TrainRecipe(mixup=1.0, label_smoothing=0.1), 10)
    _, targets = mix(torch.rand(4, 3, 8, 8), torch.arange(4), (0, 0, 0))
    assert targets.sum(1).tolist() == pytest.approx([1.0] * 4)
    assert targets.min().item() == pytest.approx(0.01)
    # A network that says nothing has the loss log 10 whatever the targets, which sum to one.
    silent = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
    nn.init.zeros_(silent[1].weight), nn.init.zeros_(silent[1].bias)
    tiny = recipe(mixup=1.0, epochs=1, lr=1e-12, warmup_epochs=0)
    row = fit(silent, open_data(DATA), tiny).epochs[0]
    assert row["train_loss"] == pytest.approx(2.302585, abs=1e-4)
