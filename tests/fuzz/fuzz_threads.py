"""A model that serves in one thread while another one plans, counts or wraps its copy.

A case is one verb beside at least `FORWARDS` forward passes, or beside as many random numbers that
another thread draws, which are to be those that it draws alone.
"""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import fuzzer
from meanwhile import beside
from torch import Tensor, nn
from zoo import PlainVGG, snapshot

import attnzoo

SIZE = (3, 16, 16)
FORWARDS = 25  # beside a verb


@functools.cache
def serving(training: bool) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = PlainVGG().train(training)
    model.features[4].eval()  # its statistics would move
    x = torch.randn(1, *SIZE)
    with torch.no_grad():
        return model, x, model(x)


def verbs(model: nn.Module, block: str) -> dict[str, Callable[[], Any]]:
    return {
        "plan": lambda: attnzoo.plan(model, "pre-pool", block, example=SIZE),
        "cost": lambda: attnzoo.cost(model, SIZE),
        "print": lambda: str(attnzoo.plan(model, "pre-pool", block, example=SIZE)),
        "twin": lambda: attnzoo.wrap(copy.deepcopy(model), "pre-pool", block, example=SIZE),
        "other": lambda: attnzoo.unwrap(
            attnzoo.wrap(PlainVGG(), "pre-pool", block, example=SIZE, start="paper")
        ),
    }


def case(draw: random.Random, place: Path) -> str:
    model, x, right = serving(draw.random() < 0.5)
    name = draw.choice(["plan", "cost", "print", "twin", "other"])
    verb = verbs(model, draw.choice(["se", "eca", "cbam", "local"]))[name]
    if name != "other" and draw.random() < 0.2:  # what builds a network draws for it
        return numbers(verb, draw.randrange(1000))
    before = snapshot(model)

    def serve() -> bool:
        with torch.no_grad():
            return torch.equal(model(x), right)

    with beside(serve) as results:
        while len(results) < FORWARDS:
            verb()
    errors = [result for result in results if isinstance(result, Exception)]
    if errors:
        raise RuntimeError(f"{name}: {len(errors)} of {len(results)} failed") from errors[0]
    return "right" if all(results) and snapshot(model) == before else "silent"


def numbers(verb: Callable[[], Any], seed: int) -> str:
    torch.manual_seed(seed)
    alone = [torch.rand(()).item() for _ in range(FORWARDS)]
    torch.manual_seed(seed)
    with beside(lambda: torch.rand(()).item()) as drawn:
        while len(drawn) < FORWARDS:
            verb()
    return "right" if drawn[:FORWARDS] == alone else "silent"


fuzz = fuzzer(case)
