"""Optimizers that were made before `wrap` take the new parameters."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import attnzoo
from attnzoo.errors import NoSitesError, OptionError


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 2, 3))


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(2, 3, 16, 16)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("named", [False, True])
def test_the_new_parameters_learn_with_the_options_of_the_first_group(named: bool):
    model = net()
    given = model.named_parameters() if named else model.parameters()
    optimizer = torch.optim.SGD(given, lr=0.1, momentum=0.9, weight_decay=0.01)
    step(model, optimizer)
    optimizer.param_groups[0]["lr"] = 0.05
    attnzoo.wrap(model, "pre-pool", "se", example=(3, 16, 16), optimizer=optimizer)
    held = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert set(held) == {id(p) for p in model.parameters()}
    for group in optimizer.param_groups[1:]:
        decayed = group["name"] == "attention"
        assert (group["lr"], group["momentum"]) == (0.05, 0.9)
        assert group["weight_decay"] == (0.01 if decayed else 0.0)
        assert all((p.ndim >= 2) == decayed for p in group["params"])
    gamma = next(p for name, p in model.named_parameters() if name.endswith("gamma"))
    step(model, optimizer)
    assert gamma.abs().max() > 0


def test_what_cannot_take_them_is_refused_and_nothing_is_changed():
    model = net()
    others = torch.optim.SGD(net().parameters(), lr=0.1)
    scheduled = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.optim.lr_scheduler.StepLR(scheduled, 3)
    for optimizer, reason in (
        (others, "trains no parameter of this"),
        (scheduled, "has a learning-rate schedule already"),
        ("sgd", "must be a torch.optim.Optimizer"),
    ):
        with pytest.raises(OptionError, match=reason):
            attnzoo.wrap(model, "pre-pool", "se", example=(3, 16, 16), optimizer=optimizer)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(NoSitesError):
        attnzoo.wrap(model, "transition", "se", example=(3, 16, 16), optimizer=optimizer)
    assert len(optimizer.param_groups) == 1
    assert not attnzoo.attention_modules(model)


def test_an_optimizer_that_would_not_train_what_is_new_is_said():
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.warns(UserWarning, match=r"the Adam was made before attention came"):
        attnzoo.wrap(model, "pre-pool", "se", example=(3, 16, 16))
    assert optimizer.param_groups  # it lived until here


def test_who_trains_it_otherwise_or_something_else_is_not_warned():
    model, other = net(), net()
    theirs = torch.optim.SGD(other.parameters(), lr=0.1)
    with warnings.catch_warnings(action="error"):
        attnzoo.wrap(model, "pre-pool", "se", example=(3, 16, 16))  # theirs has no part of it
        ours = torch.optim.SGD(model.parameters(), lr=0.1)
        attnzoo.unwrap(model)
    known = net()
    mine = torch.optim.SGD(known.parameters(), lr=0.1)
    with warnings.catch_warnings(action="error"):
        attnzoo.wrap(known, "pre-pool", "se", example=(3, 16, 16), optimizer=mine)
    assert theirs.param_groups
    assert ours.param_groups
