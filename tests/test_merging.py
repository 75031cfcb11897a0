"""Attention that comes to a constant is folded away, and the network computes what it did."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from zoo import outputs, same_bits

import attnzoo
from attnzoo.errors import NotWrappedError, UnsupportedModelError
from attnzoo.hosts import Attention

X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def resnet(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=5)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return attnzoo.wrap(model, example=(3, 64, 64), **options).eval()


def learned(model: nn.Module, *names: str) -> nn.Module:
    """γ, scale and shift moved away from where they start."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.rpartition(".")[2] in names:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


@pytest.mark.parametrize("policy", ["in-residual", "post-residual", "pre-pool"])
def test_what_has_not_learned_is_taken_out_bit_for_bit(policy: str) -> None:
    model = resnet(policy=policy, block="cbam")
    before, count = outputs(model, X), len(attnzoo.attention_modules(model))
    report = attnzoo.merge(model)
    assert (len(report.merged), report.left) == (count, {})
    assert str(report).startswith(f"{count} of {count} attentions merged.")
    assert same_bits(outputs(model, X), before)
    assert [*model.state_dict()] == [*torchvision.models.resnet18().state_dict()]
    assert not attnzoo.recipes(model)
    with pytest.raises(NotWrappedError):
        attnzoo.unwrap(model)


@pytest.mark.parametrize("start", ["identity", "paper"])
def test_a_channel_affine_goes_into_the_norm_before_it(start: str) -> None:
    model = learned(resnet(policy="in-residual", block="affine", start=start), "scale", "shift")
    learned(model, "gamma")
    before, plain = outputs(model, X), outputs(resnet(policy="in-residual"), X)
    report = attnzoo.merge(model)
    assert set(report.merged.values()) == {"folded into the BatchNorm2d before it"}
    assert len(report.merged) == 8
    assert not torch.allclose(before, plain, rtol=0.01)
    torch.testing.assert_close(outputs(model, X), before)


@pytest.mark.parametrize(("block", "start"), [("none", "paper"), ("se", "neutral")])
def test_what_returns_every_map_as_it_is_goes_from_anywhere(block: str, start: str) -> None:
    model = resnet(policy="post-residual", block=block, start=start)
    before, count = outputs(model, X), len(attnzoo.attention_modules(model))
    report = attnzoo.merge(model)
    assert set(report.merged.values()) == {"taken out: it returns the map as it is"}
    assert (len(report.merged), report.left) == (count, {})
    assert same_bits(outputs(model, X), before)
    assert not attnzoo.attention_modules(model)


def test_what_stands_in_the_place_of_a_module_stays() -> None:
    model = resnet(
        policy=("match", {"pattern": "layer1.0.conv2", "where": "replace"}),
        block="none",
        start="paper",
    )
    before = outputs(model, X)
    assert len(attnzoo.merge(model).left) == 1
    assert same_bits(outputs(model, X), before)


def test_gates_that_are_left_with_a_bias_go_into_a_convolution() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3)
    ).eval()
    attnzoo.wrap(model, "pre-pool", "se", start="neutral", example=(3, 64, 64))
    gate = next(m for m in model.modules() if isinstance(m, Attention)).block.gate
    with torch.no_grad():
        gate.fc2.bias.copy_(torch.linspace(-2, 2, 8))
    before = outputs(model, X)
    assert attnzoo.merge(model).merged == {"attn_pre_1": "folded into the Conv2d before it"}
    assert [*model.state_dict()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    torch.testing.assert_close(outputs(model, X), before)


def test_what_depends_on_the_map_or_has_no_layer_before_it_stays_and_says_why() -> None:
    model = learned(resnet(policy="in-residual", block="se"), "gamma")
    first = next(m for m in model.modules() if isinstance(m, Attention))
    with torch.no_grad():
        assert first.gamma is not None
        first.gamma.zero_()
    before = outputs(model, X)
    report = attnzoo.merge(model)
    assert (len(report.merged), len(report.left)) == (1, 7)
    assert set(report.left.values()) == {"what 'se' does depends on the map"}
    assert len(attnzoo.attention_modules(model)) == 7
    assert same_bits(outputs(model, X), before)
    behind = learned(resnet(policy="post-residual", block="affine", start="paper"), "scale")
    report = attnzoo.merge(behind)
    assert set(report.left.values()) == {"no BatchNorm or convolution stands straight before it"}


def test_what_is_off_goes_and_what_has_none_is_refused() -> None:
    model = attnzoo.switch(learned(resnet(policy="in-residual", block="se"), "gamma"), None)
    before = outputs(model, X)
    assert set(attnzoo.merge(model).merged.values()) == {"taken out: it is off"}
    assert same_bits(outputs(model, X), before)
    with pytest.raises(NotWrappedError, match="holds no attention"):
        attnzoo.merge(model)
    with pytest.raises(UnsupportedModelError, match="compiled"):
        attnzoo.merge(torch.compile(resnet(policy="in-residual")))
