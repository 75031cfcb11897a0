"""A wrapped model computes what it did, bit for bit; unwrapped it is what it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from zoo import BACKBONES, SIZE, example, outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import NoSitesError, SiteError
from attnzoo.hosts.attention import Attention
from attnzoo.registry import POLICIES


@pytest.fixture(scope="module", params=list(BACKBONES))
def backbone(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    """A network in eval mode and what it computes."""
    torch.manual_seed(0)
    model = BACKBONES[request.param]().eval()
    return model, outputs(model)


def _requests() -> list[Any]:
    """Every policy, and the options that make it do something else."""
    plain: list[Any] = [spec.name for spec in POLICIES if spec.name != "match"]
    return [
        *plain,
        ("pre-pool", {"trunk_only": True}),
        ("mbconv", {"position": "se"}),
        ("match", {"type": "BatchNorm2d", "every": 5}),
        ("match", {"type": "Conv2d", "where": "before", "every": 7}),
        ["stage-end", ("post-residual", {"occupied": "skip"})],
    ]


@pytest.mark.no_cover
@pytest.mark.parametrize("number", range(len(_requests())), ids=lambda i: str(_requests()[i]))
def test_identity_start_changes_no_bit(backbone: tuple[nn.Module, Tensor], number: int) -> None:
    model, before = backbone
    policy, blocks = _requests()[number], attnzoo.list_blocks()
    untouched = snapshot(model)
    keys, types = list(model.state_dict()), [type(m) for m in model.modules()]
    random_state = torch.get_rng_state()
    block = blocks[number % len(blocks)]  # the sweep over all blocks is the next test
    try:
        plan = attnzoo.plan(model, policy, block, example=SIZE)
    except (NoSitesError, SiteError):
        assert snapshot(model) == untouched
        return
    assert snapshot(model) == untouched
    plan.apply()
    assert torch.equal(torch.get_rng_state(), random_state)
    after = outputs(model)
    assert len(attnzoo.attention_modules(model)) == len(plan.sites) > 0
    attnzoo.unwrap(model)
    assert same_bits(after, before)
    assert snapshot(model) == untouched
    assert list(model.state_dict()) == keys
    assert [type(m) for m in model.modules()] == types
    assert same_bits(outputs(model), before)


@pytest.mark.no_cover
@pytest.mark.parametrize("block", attnzoo.list_blocks())
@pytest.mark.parametrize(
    "backbone",
    ["plain", "resnet18", "timm/efficientnet_b0", "timm/mambaout_femto"],
    indirect=True,
)
def test_identity_start_changes_no_bit_for_any_block(
    backbone: tuple[nn.Module, Tensor], block: str
) -> None:
    model, before = backbone
    untouched = snapshot(model)
    attnzoo.wrap(model, "auto", block, example=SIZE)
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_what_is_wrapped_in_inference_mode_can_be_trained() -> None:
    model = torchvision.models.resnet18()
    with torch.inference_mode():
        attnzoo.wrap(model, "in-residual", "se", example=(3, 32, 32))
        of_this_mode = torchvision.models.resnet18().eval()
        before = of_this_mode(torch.ones(1, 3, 32, 32))
        attnzoo.wrap(of_this_mode, "in-residual", "se")
        assert torch.equal(of_this_mode(torch.ones(1, 3, 32, 32)), before)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    assert all(module.gamma.grad.isfinite().all() for module in attentions)
    assert len(attentions) == 8


@pytest.mark.no_cover
@pytest.mark.parametrize("name", [n for n in BACKBONES if n != "vgg11"])
def test_every_block_has_an_effect_once_gamma_is_set(name: str) -> None:
    model = BACKBONES[name]()
    attnzoo.wrap(model, ["auto", ("stage-end", {"occupied": "skip"})], "se", example=SIZE)
    before = outputs(model)
    for path, module in model.named_modules():
        if isinstance(module, Attention):
            with torch.no_grad():
                module.gamma.fill_(-3.0)
                changed = not same_bits(outputs(model, example()), before)
                module.gamma.zero_()
            assert changed, path
