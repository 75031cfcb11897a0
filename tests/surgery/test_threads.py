"""A model that serves in one thread while another one looks at it, or works on its copy.

`tests/fuzz/fuzz_threads.py` does so with a smaller one, more often.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from meanwhile import beside
from torch import nn
from zoo import BACKBONES, PlainVGG, snapshot

import attnzoo

#: How many forward passes are awaited beside each verb.
COUNT = 10
SIZE = (3, 16, 16)


VERBS: dict[str, Callable[[nn.Module], Any]] = {
    "plan": lambda model: attnzoo.plan(model, "pre-pool", "se", example=SIZE),
    "cost": lambda model: attnzoo.cost(model, SIZE),
    "print": lambda model: str(attnzoo.plan(model, "pre-pool", "local", example=SIZE)),
    "wrap a copy": lambda model: attnzoo.wrap(copy.deepcopy(model), "pre-pool", example=SIZE),
    "wrap another": lambda _: attnzoo.unwrap(attnzoo.wrap(PlainVGG(), "pre-pool", example=SIZE)),
}


@pytest.mark.no_cover
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("training", [False, True])
def test_a_model_serves_while_someone_looks_at_it(verb: str, training: bool) -> None:
    torch.manual_seed(0)
    model = BACKBONES["googlenet"]().train(training)
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.BatchNorm2d):
            module.eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        right = model(x)
    right, untouched = _tensor(right), snapshot(model)

    def serve() -> bool:
        with torch.no_grad():
            return torch.equal(_tensor(model(x)), right)

    looked = 0
    with beside(serve) as results:
        while len(results) < COUNT:
            VERBS[verb](model)
            looked += 1
    assert set(results) == {True}
    assert looked
    assert snapshot(model) == untouched


def _tensor(result: Any) -> torch.Tensor:
    return result if isinstance(result, torch.Tensor) else result[0]


@pytest.mark.no_cover
def test_the_random_numbers_of_another_thread_are_no_others() -> None:
    model = PlainVGG()
    torch.manual_seed(5)
    alone = [torch.rand(()).item() for _ in range(400)]
    torch.manual_seed(5)
    with beside(lambda: torch.rand(()).item()) as drawn:
        while len(drawn) < 300:
            attnzoo.unwrap(attnzoo.wrap(model, "pre-pool", "local", example=SIZE))
    assert drawn[:300] == alone[:300]


def test_own_weights_are_the_same_with_and_without_another_thread() -> None:
    def weights() -> list[torch.Tensor]:
        torch.manual_seed(3)
        model = attnzoo.wrap(PlainVGG(), "pre-pool", "cbam", example=SIZE)
        return [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]

    alone = weights()
    idle = threading.Event()
    thread = threading.Thread(target=idle.wait)
    thread.start()
    try:
        with_another = weights()
    finally:
        idle.set()
        thread.join()
    assert all(map(torch.equal, alone, with_another))


@pytest.mark.no_cover
def test_two_threads_wrap_two_models() -> None:
    def wrap() -> bool:
        model = PlainVGG()
        attnzoo.wrap(model, "pre-pool", "se", example=SIZE)
        found = len(attnzoo.attention_modules(model))
        attnzoo.unwrap(model)
        return found == 2

    with beside(wrap) as results:
        own = [wrap() for _ in range(10)]
    assert all(own)
    assert set(results) <= {True}
