"""Hidden layers have a floor, so that a fresh gate is alive."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import attnzoo
from attnzoo.blocks import LocalAttention
from attnzoo.blocks.parts import hidden_channels
from attnzoo.errors import OptionError
from attnzoo.registry import BLOCKS

#: Blocks whose gate is made by a narrow layer with a ReLU behind it.
BOTTLENECKS = [
    *("bam", "cbam", "coord", "gam", "ge", "local", "local-dynamic", "local-self", "scse", "se"),
]


def _is_stuck(name: str, channels: int, seed: int, images: torch.Tensor) -> bool:
    """Whether a weight of a fresh block gets no gradient from any of the images."""
    torch.manual_seed(seed)
    front = nn.Sequential(nn.Conv2d(3, channels, 3, 8, 1), nn.BatchNorm2d(channels), nn.ReLU())
    block = attnzoo.create_block(name, channels)
    with torch.no_grad():
        x = front(images)
    weights = [p for p in block.parameters() if p.ndim > 1]
    found = torch.autograd.grad(block(x).pow(2).sum(), weights)
    return not all(gradient.any() for gradient in found)


@pytest.mark.no_cover
@pytest.mark.parametrize("channels", [8, 16, 24, 32, 64])
@pytest.mark.parametrize("name", BOTTLENECKS)
def test_fresh_gates_are_not_dead(name: str, channels: int) -> None:
    images = torch.rand(64, 3, 16, 16)
    assert sum(_is_stuck(name, channels, seed, images) for seed in range(100)) <= 2


def test_every_block_with_a_floor_is_among_them() -> None:
    with_floor = {spec.name for spec in BLOCKS if "floor" in spec.options}
    assert with_floor == {*BOTTLENECKS, "gc"}  # whose last layer starts at zero


@pytest.mark.parametrize("reduction", [16, "auto"])
def test_the_floor_holds_for_every_reduction(reduction: int | str) -> None:
    assert [hidden_channels("x", c, reduction, 8) for c in (1, 8, 32)] == [8, 8, 8]
    assert hidden_channels("x", 512, reduction, 8) == 32
    assert hidden_channels("x", 512, reduction, 100) == 100
    with pytest.raises(OptionError, match="floor=0 must be an integer"):
        hidden_channels("x", 8, reduction, 0)


def test_the_reference_has_no_floor_but_its_block_has() -> None:
    assert LocalAttention(16).channel_attention[1].out_channels == 2
    block = attnzoo.create_block("local", 16)
    assert block.channel_attention[1].out_channels == block.spatial_attention[0].out_channels == 8
    assert attnzoo.create_block("local", 16, floor=1).channel_attention[1].out_channels == 2
