"""What a forward pass's source says: who runs over its children, who reads positions."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from attnzoo.hosts.source import reads_positions


def test_code_without_source_is_taken_to_read_positions() -> None:
    scope: dict[str, Any] = {"nn": nn}
    exec("class Indexed(nn.Module):\n    def forward(self, x):\n        return self.a(x)", scope)
    assert reads_positions(scope["Indexed"], "a")


_USES = {
    "called": ("self.features(x)", False),
    "passed": ("run(self.features, x)", False),
    "attribute": ("self.features.conv(x)", False),
    "index": ("self.features[0](x)", True),
    "slice": ("run(self.features[:3], x)", True),
    "as an index": ("x[self.features]", False),
    "length": ("x * len(self.features)", True),
    "list": ("list(self.features)", True),
    "enumerate": ("[f(x) for _, f in enumerate(self.features)]", True),
    "comprehension": ("[f(x) for f in self.features]", True),
    "starred": ("run(*self.features)", True),
    "children": ("list(self.features.children())", True),
    "modules": ("self.features._modules", True),
    "other": ("other.features[0](x)", False),
}


@pytest.mark.parametrize("use", _USES)
def test_who_reads_positions(use: str, tmp_path: Any) -> None:
    expression, expected = _USES[use]
    source = f"""
from torch import nn

class Uses(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = self.features[0]

    def forward(self, x, run=None, other=None):
        return {expression}
"""
    path = tmp_path / "uses.py"
    path.write_text(source)
    scope: dict[str, Any] = {"__name__": "uses"}
    exec(compile(source, str(path), "exec"), scope)
    assert reads_positions(scope["Uses"], "features") is expected
    assert not reads_positions(scope["Uses"], "elsewhere")


class Statements(nn.Module):
    def loop(self, x: Tensor) -> Tensor:
        for layer in self.looped:
            x = layer(x)
        return x

    def alias(self, x: Tensor) -> Tensor:
        layers = self.aliased
        return layers[0](x)

    @staticmethod
    def static(self: Any, x: Tensor) -> Tensor:
        return self.in_static[0](x)

    @torch.no_grad()
    def decorated(self, x: Tensor) -> Tensor:
        return self.in_decorated(x)


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [("looped", True), ("aliased", True), ("in_static", True), ("in_decorated", False)],
)
def test_statements_that_read_positions(attribute: str, expected: bool) -> None:
    assert reads_positions(Statements, attribute) is expected


def test_networks_whose_features_are_positions() -> None:
    assert reads_positions(timm.models.densenet.DenseNet, "features")
    assert not reads_positions(torchvision.models.VGG, "features")
    assert not reads_positions(torchvision.models.DenseNet, "features")
