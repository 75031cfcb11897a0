"""Networks that were traced or exported: their attention is in a graph, and that is said."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

import attnzoo

MADE: dict[str, Callable[[nn.Module], nn.Module]] = {
    "fx": torch.fx.symbolic_trace,
    "features": lambda model: create_feature_extractor(model, ["layer2"]),
    "export": lambda model: torch.export.export(model, (torch.zeros(2, 3, 64, 64),)).module(),
}


@pytest.mark.no_cover
@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("policy", ["post-residual", "in-residual", "pre-pool"])
def test_where_attention_is_asked_for_and_only_a_graph_has_it(made: str, policy: str) -> None:
    model = torchvision.models.resnet18().eval()
    attnzoo.wrap(model, policy, "se", start="paper", example=(3, 64, 64))
    graph = MADE[made](model)
    with pytest.warns(UserWarning, match="as part of its graph"):
        assert attnzoo.attention_modules(graph) == {}
    with pytest.warns(UserWarning, match="was traced or exported"):
        attnzoo.param_groups(graph, lr=0.1, attention_lr_scale=10)
    with pytest.warns(UserWarning, match="Ask the network that it was made from"):
        attnzoo.freeze(graph)


def test_a_plain_network_and_its_graph_are_not_warned_of() -> None:
    model = torchvision.models.resnet18()
    with warnings.catch_warnings(action="error"):
        assert attnzoo.attention_modules(model) == {}
        assert attnzoo.attention_modules(torch.fx.symbolic_trace(model)) == {}
