"""What is linear and what is not, seen in the residual blocks that it decides on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attnzoo
from attnzoo.structure import passes, residual_blocks
from attnzoo.structure.graph import nonlinear_values
from attnzoo.structure.operations import is_linear
from attnzoo.tracing import probe

SIZE = (3, 32, 32)

Function = Callable[[Tensor], Tensor]


class Run(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Block(nn.Module):
    """A residual block with any activation, on the branch and perhaps on the projected shortcut."""

    def __init__(self, branch: Function, shortcut: Function | None = None) -> None:
        super().__init__()
        self.first, self.act, self.second = (
            nn.Conv2d(8, 8, 3, padding=1),
            Run(branch),
            nn.Conv2d(8, 8, 1),
        )
        self.project = None if shortcut is None else nn.Conv2d(8, 8, 1)
        self.norm = None if shortcut is None else Run(shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.act(self.first(x)))
        return y + (x if self.project is None else self.norm(self.project(x)))


def _network(*blocks: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *blocks, nn.MaxPool2d(2))


BENT: dict[str, Function] = {
    "relu": torch.relu,
    "swish written out": lambda x: x * torch.sigmoid(x),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "where of constants": lambda x: torch.where(x > 0, 1.0, -1.0),
    "maximum": lambda x: torch.maximum(x, 0.1 * x),
    "sine": torch.sin,
    "sign": torch.sign,
    "spike": lambda x: (x >= 1).float(),
    "square": lambda x: x * x,
    "power": lambda x: x**2,
    "absolute": torch.abs,
    "round": torch.round,
    "to integers and back": lambda x: x.to(torch.int8).float(),
    "radial": lambda x: torch.exp(-x * x),
    "ratio": lambda x: x / (1 + x.abs()),
    "maxout": lambda x: torch.cat([x, x], 1).unflatten(1, (8, 2)).amax(2),
}
STRAIGHT: dict[str, Function] = {
    "nothing": lambda x: x,
    "scale": lambda x: 0.5 * x,
    "flip": lambda x: x.flip(3),
    "half precision": lambda x: x.half().float(),
    "pool": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "layer norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "layer norm written out": lambda x: (
        (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-6).sqrt()
    ),
    "RMS norm written out": lambda x: x * (x.square().mean(1, keepdim=True) + 1e-6).rsqrt(),
    "length one": lambda x: F.normalize(x, dim=1),
    "masked": lambda x: torch.where(torch.ones(8, 1, 1, dtype=torch.bool).to(x.device), x, 0.0),
    "standard deviation": lambda x: x / x.flatten(2).std(2)[:, :, None, None],
}


@pytest.mark.parametrize("name", BENT)
def test_whatever_is_not_known_to_be_linear_makes_a_residual_block(name: str) -> None:
    model = _network(Block(BENT[name]), Block(BENT[name]))
    assert [block.call.path for block in residual_blocks(probe(model, SIZE))] == ["1", "2"]
    plan = attnzoo.plan(model, "auto", "se", example=SIZE)
    assert [call.name for call in plan.recipe.policies] == ["post-residual"]
    sites = attnzoo.plan(model, "in-residual", "se", example=SIZE).sites
    assert [site.path for site in sites] == ["1.second", "2.second"]


@pytest.mark.parametrize("name", STRAIGHT)
def test_what_is_linear_makes_none_and_may_stand_on_a_shortcut(name: str) -> None:
    trace = probe(_network(Block(STRAIGHT[name])), SIZE)
    assert residual_blocks(trace) == ()
    assert nonlinear_values(trace) == 0
    projected = _network(Block(torch.relu, STRAIGHT[name]))
    (block,) = residual_blocks(probe(projected, SIZE))
    (addition,) = block.additions
    trace = probe(projected, SIZE)
    made = next(call for call in trace.calls if call.path == "1.second")
    assert made.outputs == (addition.branch,)


def test_an_activation_behind_the_sum_belongs_to_the_block() -> None:
    class Spiking(Block):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where((y := super().forward(x)) > 1, y, 0.1 * y)

    model = _network(Spiking(torch.sin))
    assert [block.call.path for block in residual_blocks(probe(model, SIZE))] == ["1"]


def test_a_product_of_two_maps_is_a_gate() -> None:
    """Of a map and a constant it is not, and neither is a convolution by fixed weights."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Run(lambda x: x * x.mean((2, 3), keepdim=True)))
    trace = probe(model, SIZE)
    assert [op.name for op in trace.ops if not is_linear(trace, op)] == ["mul"]
    trace = probe(nn.Sequential(nn.Conv2d(3, 8, 1), Run(lambda x: x @ x.mT)), SIZE)
    assert {op.name for op in trace.ops if not is_linear(trace, op)} == {"bmm"}
    trace = probe(nn.Sequential(nn.Conv2d(3, 8, 1), Run(lambda x: x @ x.new_ones(32, 4))), SIZE)
    assert [op.name for op in trace.ops if not is_linear(trace, op)] == []


def test_operations_that_hand_a_map_on() -> None:
    known = "relu hardswish where maximum sign cat permute add mul"
    assert all(map(passes, known.split()))
    other = "convolution native_batch_norm max_pool2d mm nothing_known"
    assert not any(map(passes, other.split()))
