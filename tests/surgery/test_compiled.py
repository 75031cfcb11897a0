"""`torch.compile` and surgery on the original of what was compiled, and inside of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo import PlainVGG, Residual, example

import attnzoo
from attnzoo.hosts.attention import Attention

SIZE = (3, 64, 64)
pytestmark = pytest.mark.no_cover


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
        self.block, self.pool = Residual(8), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.block(self.stem(x))).mean((2, 3))


@pytest.fixture(autouse=True)
def _fresh() -> Generator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


STACKED: Any = ("pre-pool", {"occupied": "stack"})
PLACES: dict[str, Any] = {
    "insert": ("match", {"pattern": "stem.1"}),
    "hook after": ("match", {"pattern": "block"}),
    "hook before": ("match", {"pattern": "block", "where": "before"}),
    "wrap": ("match", {"pattern": "pool"}),
    "replace": ("match", {"pattern": "block.conv1", "where": "replace"}),
}


@pytest.mark.parametrize("how", ["model", "function", "with a break"])
@pytest.mark.parametrize("place", PLACES)
def test_what_was_compiled_before_sees_the_attention_and_its_removal(how: str, place: str) -> None:
    model, x = _Net().eval(), example(1)

    def run(y: Tensor) -> Tensor:
        if how == "with a break":
            torch._dynamo.graph_break()
        return model(y) * 1

    compiled: Callable[[Tensor], Tensor] = torch.compile(
        model if how == "model" else run, backend="eager"
    )
    with torch.no_grad():
        before = compiled(x)
        for _ in range(2):
            attnzoo.wrap(model, PLACES[place], "se", example=SIZE)
            for module in model.modules():
                if isinstance(module, Attention):
                    module.gamma.data.fill_(0.7)
            assert torch.equal(compiled(x), model(x))
            assert not torch.allclose(model(x), before, atol=1e-4)
            attnzoo.unwrap(model)
            assert torch.equal(compiled(x), before)


def test_verbs_work_inside_a_compiled_function() -> None:
    model = PlainVGG()

    @torch.compile(backend="eager")
    def wrap(x: Tensor) -> Tensor:
        y = x * 2
        attnzoo.wrap(model, "pre-pool", "se", example=SIZE)
        return y + 1

    @torch.compile(backend="eager")
    def rest(x: Tensor) -> Tensor:
        sites = len(attnzoo.plan(model, STACKED, "se", example=SIZE).sites)
        macs = attnzoo.cost(model, SIZE).macs
        attnzoo.unwrap(model)
        return x * sites + macs

    assert torch.equal(wrap(torch.ones(2)), torch.full((2,), 3.0))
    assert len(attnzoo.attention_modules(model)) == 2
    expected = torch.ones(2) * 2 + attnzoo.cost(model, SIZE).macs
    assert torch.equal(rest(torch.ones(2)), expected)
    assert attnzoo.attention_modules(model) == {}
