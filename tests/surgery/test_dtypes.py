"""Attention has the dtype of its map; a block that can't work on it fails before surgery."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from zoo import PlainVGG, outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import SiteError, SurgeryError
from attnzoo.registry import register_block

SIZE = (3, 64, 64)


@pytest.fixture
def default_float64() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.no_cover
@pytest.mark.parametrize("block", attnzoo.list_blocks())
def test_a_network_of_another_dtype_than_the_default(block: str, default_float64: None) -> None:
    model = torchvision.models.resnet18(num_classes=3).float().eval()
    x = torch.randn(1, *SIZE, dtype=torch.float32)
    before = outputs(model, x)
    attnzoo.wrap(model, ("in-residual", {"every": 4}), block, example=x)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert same_bits(outputs(model, x), before)


class _Mixed(nn.Module):
    """Its second half works in another dtype, whatever the first parameter is."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.second = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
        self.last = nn.Conv2d(4, 4, 1).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x).double()))


def test_each_attention_has_the_dtype_of_its_map() -> None:
    model, x = _Mixed().eval(), torch.randn(2, 3, 16, 16)
    before = outputs(model, x)
    attnzoo.wrap(model, "pre-pool", "se", example=x)
    first, second = attnzoo.attention_modules(model).values()
    assert next(first.parameters()).dtype == torch.float32
    assert next(second.parameters()).dtype == torch.float64
    assert same_bits(outputs(model, x), before)


def test_a_map_of_integers_is_no_place() -> None:
    class Quantises(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.act((self.conv(x) * 9).to(torch.int32))) * 2

    model = Quantises()
    untouched = snapshot(model)
    with pytest.raises(SiteError, match=r"holds torch\.int32"):
        attnzoo.wrap(model, "pre-pool", "none", example=(3, 8, 8))
    assert snapshot(model) == untouched


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("how", ["weight", "result"])
def test_a_block_that_keeps_a_dtype_of_its_own_is_noticed(how: str) -> None:
    @register_block("stubborn")
    class Stubborn(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 1)
            self.real = not self.conv.weight.is_meta  # not while the plan is made

        def forward(self, x: Tensor) -> Tensor:
            if not self.real:
                return self.conv(x)
            if how == "weight":
                return torch.conv2d(x, self.conv.weight.double())
            return self.conv(x).double()

    model = PlainVGG()
    untouched = snapshot(model)
    match = "one dtype" if how == "weight" else "makes torch.float64 of a map of torch.float32"
    with pytest.raises(SurgeryError, match=match):
        attnzoo.wrap(model, "pre-pool", "stubborn", start="paper", example=SIZE)
    assert snapshot(model) == untouched
