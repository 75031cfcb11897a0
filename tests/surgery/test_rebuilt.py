"""Attention outlives reparameterisation and merged adapters, or the place is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from zoo import same_bits, snapshot

import attnzoo
from attnzoo.errors import SiteError

SIZE = (3, 224, 224)


def _off(before: Tensor, after: Tensor) -> float:
    return float((before - after).abs().max() / before.abs().max())


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("name", "policy", "sites"),
    [
        ("tiny_vit_5m_224", "auto", 3),
        ("tiny_vit_5m_224", "stage-end", 5),
        ("shvit_s1", "in-residual", 24),
        ("efficientvit_m0", "in-residual", 22),
        ("repvit_m0_9", "in-residual", 23),
        ("ghostnetv3_050", "in-residual", 16),
    ],
)
def test_attention_outlives_reparameterisation_by_timm(name: str, policy: str, sites: int) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    attnzoo.wrap(model, policy, "se", start="paper", example=SIZE)
    assert len(attnzoo.attention_modules(model)) == sites
    x = torch.randn(1, *SIZE)
    with torch.no_grad():
        merged = reparameterize_model(model)
        assert len(attnzoo.attention_modules(merged)) == sites
        assert _off(model(x), merged(x)) < 1e-5


def test_a_layer_that_is_merged_away_is_refused_with_what_to_name() -> None:
    with torch.device("meta"):
        model = timm.create_model("repvit_m0_9")
    with pytest.raises(SiteError, match=r"would be lost: 'stem\.conv1' \(ConvNorm\)"):
        attnzoo.plan(model, ("match", {"pattern": "stem.conv1.c"}), "se", example=SIZE)
    named = attnzoo.plan(model, ("match", {"pattern": "stem.conv1"}), "se", example=SIZE)
    assert [edit.mechanism for edit in named.edits] == ["wrap"]


class Adapted(nn.Module):
    """A layer with an adapter, as peft's: it is taken out, and hands back what it stood around."""

    def __init__(self, base: nn.Conv2d) -> None:
        super().__init__()
        self.base_layer = base
        self.down = nn.Conv2d(base.in_channels, 2, 3, base.stride, 1, bias=False)
        self.up = nn.Conv2d(2, base.out_channels, 1, bias=False)

    def get_base_layer(self) -> nn.Module:
        return self.base_layer

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.up(self.down(x))


def _merge(model: nn.Module) -> nn.Module:
    for path, module in list(model.named_modules()):
        if hasattr(module, "base_layer"):
            base = module.get_base_layer()
            with torch.no_grad():
                delta = torch.einsum(
                    "oc,cikl->oikl", module.up.weight[..., 0, 0], module.down.weight
                )
                base.weight += delta
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, base)
    return model


class Adapters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Adapted(nn.Conv2d(3, 8, 3, padding=1))
        self.conv2 = Adapted(nn.Conv2d(8, 8, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x).relu()).mean((2, 3))


def test_attention_outlives_an_adapter_that_is_merged() -> None:
    torch.manual_seed(0)
    model = Adapters().eval()
    where = ("match", {"pattern": ["conv1", "conv2"]})
    attnzoo.wrap(model, where, "se", start="paper", example=(3, 16, 16))
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = model(x)
        merged = _merge(copy.deepcopy(model))
        assert len(attnzoo.attention_modules(merged)) == 2
        assert _off(before, merged(x)) < 1e-5
    plain = attnzoo.unwrap(merged)
    assert isinstance(plain.conv1, nn.Conv2d)


@pytest.mark.parametrize("where", ["after", "before"])
@pytest.mark.parametrize("name", ["xception41", "xception41p"])
def test_a_block_that_hands_out_a_map_from_inside_is_attended(name: str, where: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    plain = snapshot(model)
    x = torch.randn(1, 3, 64, 64)
    blocks = {type(block).__name__ for block in model.blocks}
    policy = ("match", {"type": sorted(blocks), "where": where})
    with torch.no_grad():
        before: Any = model.forward_intermediates(x)
        attnzoo.wrap(model, policy, "local", start="paper", example=(3, 64, 64))
        ran: list[str] = []
        for path, block in attnzoo.attention_modules(model).items():
            block.register_forward_hook(lambda *_, path=path: ran.append(path))
        expected = model.forward_features(x)
        all_of_them = list(ran)
        ran.clear()
        after: Any = model.forward_intermediates(x)
        assert ran == all_of_them
        assert len(ran) == len(attnzoo.attention_modules(model)) > 10
        assert same_bits(after[0], expected)
        assert not torch.allclose(after[1][-1], before[1][-1])
        attnzoo.unwrap(model)
        again: Any = model.forward_intermediates(x)
    assert same_bits(again[0], before[0])
    assert snapshot(model) == plain


def test_ways_to_run_a_block_that_would_pass_attention_by_say_so() -> None:
    with torch.device("meta"):
        model = timm.create_model("xception41")
    attnzoo.wrap(model, "auto", "se", example=(3, 64, 64))
    with pytest.raises(AttributeError, match="attention around it, which 'prune_to_tap'"):
        model.prune_intermediate_layers([1])
