"""Parameter groups and freezing."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

import attnzoo
from attnzoo.errors import OptionError, UnknownNameError


@pytest.fixture
def model() -> nn.Module:
    return attnzoo.wrap(torchvision.models.resnet18(num_classes=5), "in-residual", "se")


def test_every_trainable_parameter_is_in_exactly_one_group(model: nn.Module) -> None:
    model.conv1.weight.requires_grad_(False)
    groups = attnzoo.param_groups(model, lr=0.1, weight_decay=1e-4)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_what_is_decayed_and_how_fast_attention_learns(model: nn.Module) -> None:
    groups = attnzoo.param_groups(model, lr=0.1, weight_decay=1e-4, attention_lr_scale=5)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)]: group for group in groups for p in group["params"]}
    expected = {
        "conv1.weight": (0.1, 1e-4),
        "bn1.weight": (0.1, 0.0),
        "fc.bias": (0.1, 0.0),
        "layer1.0.attn.gamma": (0.5, 0.0),
        "layer1.0.attn.block.gate.fc1.weight": (0.5, 1e-4),
        "layer1.0.attn.block.gate.fc1.bias": (0.5, 0.0),
    }
    assert {name: (found[name]["lr"], found[name]["weight_decay"]) for name in expected} == expected
    torch.optim.AdamW(groups)


def test_a_plain_model_has_no_attention_groups() -> None:
    groups = attnzoo.param_groups(torchvision.models.resnet18(), lr=0.1)
    assert [group["name"] for group in groups] == ["backbone", "backbone-no-decay"]


@pytest.mark.parametrize("option", ["lr", "weight_decay", "attention_lr_scale"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), "0.1"])
def test_bad_numbers_are_named(model: nn.Module, option: str, value: object) -> None:
    with pytest.raises(OptionError, match=option):
        attnzoo.param_groups(model, **{"lr": 0.1, option: value})


def trainable(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_freezing_everything_leaves_attention(model: nn.Module) -> None:
    assert attnzoo.freeze(model) is model
    assert trainable(model) == {name for name, _ in model.named_parameters() if ".attn." in name}
    attnzoo.freeze(model, keep_attention=False)
    assert not trainable(model)


def test_freezing_leaves_what_is_to_be_kept(model: nn.Module) -> None:
    attnzoo.freeze(model, keep_attention=False, keep=["fc", "layer1.0.bn1"])
    assert trainable(model) == {
        *("fc.weight", "fc.bias", "layer1.0.bn1.weight", "layer1.0.bn1.bias")
    }
    attnzoo.freeze(model, keep_attention=False, keep="fc")
    assert trainable(model) == {"fc.weight", "fc.bias"}
    with pytest.raises(UnknownNameError, match="no module has the path 'fcc'"):
        attnzoo.freeze(model, keep=["fcc"])


def test_freezing_up_to_a_module(model: nn.Module) -> None:
    attnzoo.freeze(model, until="layer2", keep_attention=False)
    kept = trainable(model)
    assert {name.split(".")[0] for name in kept} == {"layer3", "layer4", "fc"}
    assert "layer3.0.attn.gamma" in kept


def test_freezing_up_to_a_module_that_is_not_there(model: nn.Module) -> None:
    with pytest.raises(UnknownNameError, match="'layer2'"):
        attnzoo.freeze(model, until="layer22")
    assert trainable(model) == {name for name, _ in model.named_parameters()}
