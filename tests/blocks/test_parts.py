"""What several blocks are made of: drawn weights, and widths that follow the channels."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest
from torch import nn

from attnzoo.blocks import LocalAttention
from attnzoo.blocks.parts import draw_uniform, hidden_channels, pointwise


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_pointwise_convolution_is_one_of_torch(dtype: torch.dtype) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        made, other, real = pointwise(6, 5), pointwise(6, 5), nn.Conv2d(6, 5, 1)
    finally:
        torch.set_default_dtype(before)
    assert type(made) is nn.Conv2d
    theirs = vars(real)
    assert list(vars(made)) == list(theirs)
    for name, value in vars(made).items():
        if name != "_parameters":
            assert value == theirs[name], name
            assert type(value) is type(theirs[name]), name
            assert not isinstance(value, dict | set) or value is not vars(other)[name], name
    assert list(made.state_dict()) == list(real.state_dict())
    for mine, one in zip(made.parameters(), real.parameters(), strict=True):
        assert (mine.shape, mine.dtype, mine.requires_grad) == (one.shape, dtype, True)
    assert not made.bias.any()
    real.load_state_dict(made.state_dict())
    x = torch.randn(2, 6, 4, 4, dtype=dtype)
    assert torch.equal(made(x), real(x))
    with torch.device("meta"):
        assert pointwise(6, 5).weight.is_meta


def test_auto_width_never_shrinks_as_channels_grow() -> None:
    widths = [hidden_channels("test", channels, "auto") for channels in range(1, 2049)]
    assert widths == sorted(widths)
    assert [widths[c - 1] for c in (1, 3, 8, 64, 128, 256, 512, 2048)] == [
        1, 3, 4, 16, 16, 32, 32, 128
    ]  # fmt: skip
    assert LocalAttention(64, "auto").channel_attention[1].out_channels == 16
