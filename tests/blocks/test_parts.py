"""What several blocks are made of: drawn weights, and widths that follow the channels."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest

from attnzoo.blocks import LocalAttention
from attnzoo.blocks.parts import draw_uniform, hidden_channels


@pytest.mark.parametrize(
    "size", [(301, 501), (90, 90)]
)  # in several parts, the last one odd; in one
def test_drawn_weights_are_uniform_and_independent(size: tuple[int, int]) -> None:
    weight = torch.empty(size)
    draw_uniform(weight, 0.25)
    values = weight.flatten().double()
    assert kstest(values.numpy(), "uniform", args=(-0.25, 0.5)).pvalue > 0.01
    for lag in (1, 2, 3, 2**15):  # pieces of one number, places of one part and the next
        if lag < len(values):
            correlation = torch.corrcoef(torch.stack((values[lag:], values[:-lag])))[0, 1]
            assert abs(correlation) < 4 / len(values) ** 0.5
    again = torch.empty(size)
    draw_uniform(again, 0.25)
    assert (weight == again).double().mean() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_drawn_weights_of_other_types(dtype: torch.dtype) -> None:
    weight = torch.empty(200, 201, dtype=dtype)
    draw_uniform(weight, 2.0)
    assert weight.abs().max() <= 2
    assert weight.double().std().item() == pytest.approx(2 / 3**0.5, rel=0.02)
    assert weight.double().mean().item() == pytest.approx(0, abs=0.03)


def test_auto_width_never_shrinks_as_channels_grow() -> None:
    widths = [hidden_channels("test", channels, "auto") for channels in range(1, 2049)]
    assert widths == sorted(widths)
    assert [widths[c - 1] for c in (1, 3, 8, 64, 128, 256, 512, 2048)] == [
        1, 3, 4, 16, 16, 32, 32, 128
    ]  # fmt: skip
    assert LocalAttention(64, "auto").channel_attention[1].out_channels == 16
