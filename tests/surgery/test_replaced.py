"""Attention in a module's place: the module is put aside, follows the model, and comes back."""

from __future__ import annotations

import pytest
import torch
from refusal import refused
from torch import nn
from zoo import BACKBONES, SIZE, PlainVGG, example, outputs, same_bits

import attnzoo
from attnzoo.errors import SiteError
from attnzoo.hosts.attention import Replaced


@pytest.mark.parametrize("block", ["danet", "gct", "none"])
def test_a_block_that_returns_its_input_takes_a_modules_place_by_gamma(block: str) -> None:
    model = BACKBONES["timm/mobilenetv3_small_050"]().eval()
    before = outputs(model)
    attnzoo.wrap(model, ("mbconv", {"position": "se"}), block, example=SIZE)
    assert same_bits(outputs(model), before)
    (model(example()) ** 2).sum().backward()
    gammas = [m.attention.gamma for m in model.modules() if isinstance(m, Replaced)]
    assert gammas
    assert all(gamma.grad.abs().max() > 0 for gamma in gammas)


def _replaced(start: str) -> tuple[nn.Module, Replaced, str]:
    model = BACKBONES["timm/mobilenetv3_small_050"]()
    attnzoo.wrap(model, ("mbconv", {"position": "se"}), "eca", start=start, example=SIZE)
    path, replaced = next((p, m) for p, m in model.named_modules() if isinstance(m, Replaced))
    return model, replaced, path


def test_a_replaced_module_is_put_aside_and_follows() -> None:
    model, replaced, path = _replaced("paper")
    assert not any(key.startswith(f"{path}.conv") for key in model.state_dict())
    aside = replaced.original
    assert all(aside is not module for module in model.modules())
    model.to(torch.float64)
    assert {p.dtype for p in aside.parameters()} == {torch.float64}
    model.eval()
    assert not any(module.training for module in aside.modules())
    model.train()
    assert all(module.training for module in aside.modules())
    model.to("meta")
    assert all(p.is_meta for p in aside.parameters())
    assert attnzoo.unwrap(model).get_submodule(path) is aside


def test_gamma_fades_from_the_module_to_the_block() -> None:
    _, replaced, _ = _replaced("identity")
    x = torch.rand(1, replaced.attention.channels, 4, 4)
    with torch.no_grad():
        assert same_bits(replaced(x), replaced.original(x))
        replaced.attention.gamma.fill_(1.0)
        torch.testing.assert_close(replaced(x), replaced.attention.block(x))


def test_a_module_that_changes_the_shape_is_not_replaced() -> None:
    where = {"pattern": "features.0", "where": "replace"}
    refused(PlainVGG(), SiteError, "cannot take its place", ("match", where))
