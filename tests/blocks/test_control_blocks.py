"""Blocks that are controls: as many parameters as another block, or a scale and a shift."""

from __future__ import annotations

import pytest
import timm.layers
import torch

import attnzoo
from attnzoo.errors import OptionError
from attnzoo.registry import BLOCKS


def test_affine_keeps_float32_steps_for_half_precision_inputs() -> None:
    block = attnzoo.create_block("affine", 1)
    step = 0.4 * 2**-7  # 1 + step is 1 in bfloat16; 1.75 · (1 + step) is not 1.75
    with torch.no_grad():
        block.scale.fill_(1 + step)
    y = block(torch.full((1, 1, 1, 1), 1.75, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert y.item() == 1.75 + 2**-7


@pytest.mark.parametrize("channels", [8, 64, 96])
@pytest.mark.parametrize("like", [n for n in attnzoo.list_blocks() if n not in ("conv", "none")])
def test_conv_has_nearly_the_parameters_of_the_block_it_stands_against(
    like: str, channels: int
) -> None:
    other = sum(p.numel() for p in attnzoo.create_block(like, channels).parameters())
    block = attnzoo.create_block("conv", channels, like=like)
    own = sum(p.numel() for p in block.parameters())
    assert block.difference == own - other
    assert f"difference={own - other}" in repr(block)
    smallest = 3 * channels + 1
    assert abs(own - other) <= channels + 0.5 or (own == smallest and other < smallest)


def test_conv_stands_against_a_layer_of_timm_too() -> None:
    block = attnzoo.create_block("conv", 64, like="timm:se", like_options={"rd_ratio": 0.25})
    twin = timm.layers.SEModule(64, rd_ratio=0.25)
    assert abs(block.difference) <= 64
    assert block.difference == sum(p.numel() for p in block.parameters()) - sum(
        p.numel() for p in twin.parameters()
    )


def test_conv_refuses_what_the_other_block_refuses() -> None:
    with pytest.raises(OptionError, match="'local' has no option 'reducton'"):
        attnzoo.create_block("conv", 8, like_options={"reducton": 4})
    with pytest.raises(OptionError, match="like='conv' is not one of"):
        attnzoo.create_block("conv", 8, like="conv")


def test_conv_follows_the_recipe_it_is_given_in() -> None:
    import torchvision

    options = {"like": "se", "like_options": {"reduction": 4}}
    model = torchvision.models.resnet18(num_classes=3)
    attnzoo.wrap(model, "in-residual", "conv", example=(3, 32, 32), **options)
    (recipe,) = attnzoo.recipes(model)
    assert recipe.to_dict()["options"] == options
    assert all(
        abs(m.difference) <= m.reduce.in_channels + 0.5
        for m in model.modules()
        if isinstance(m, BLOCKS["conv"].factory)
    )
