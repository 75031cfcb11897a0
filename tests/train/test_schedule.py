"""The learning rate, step by step, against the formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attnzoo.train import TrainRecipe
from attnzoo.train.schedule import Schedule


def rates(recipe: TrainRecipe, steps: int, scale: float = 1.0) -> list[float]:
    weight = nn.Parameter(torch.zeros(1))
    other = nn.Parameter(torch.zeros(1))
    groups = [{"params": [weight], "lr": 1.0}, {"params": [other], "lr": scale}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    schedule = Schedule(optimizer, recipe, steps)
    found = []
    for done in range(recipe.epochs * steps):
        schedule.set(done)
        found.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[1]["lr"] == pytest.approx(scale * found[-1])
    return found


@given(st.integers(1, 6), st.integers(1, 9), st.floats(0, 1))
def test_a_line_then_a_cosine(epochs: int, steps: int, share: float) -> None:
    recipe = TrainRecipe(epochs=epochs, warmup_epochs=share * epochs)
    warmup, total = round(share * epochs * steps), epochs * steps
    expected = [
        (step + 1) / warmup
        if step < warmup
        else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        for step in range(total)
    ]
    assert rates(recipe, steps, scale=5.0) == pytest.approx(expected)


def test_steps_fall_at_the_start_of_an_epoch() -> None:
    recipe = TrainRecipe(
        epochs=5, schedule="step", step_epochs=2, step_factor=0.1, warmup_epochs=0.5
    )
    found = rates(recipe, 4)
    assert found == pytest.approx([0.5, 1, *[1] * 6, *[0.1] * 8, *[0.01] * 4])


def test_a_group_that_joins_has_the_rate_of_the_others() -> None:
    weight, late = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    recipe = TrainRecipe(epochs=4, warmup_epochs=1)
    Schedule(optimizer, recipe, 5).set(9)
    optimizer.add_param_group({"params": [late], "lr": 3.0})
    Schedule(optimizer, recipe, 5).set(10)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([0.75, 2.25])
