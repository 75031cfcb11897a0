"""Random numbers of our own are those that the process draws next, which it still does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

import pytest
import torch
from torch import Tensor, nn

from attnzoo.tracing.draws import own_draws

DRAWS: dict[str, Callable[[], Tensor]] = {
    "rand": lambda: torch.rand(5),
    "randn": lambda: torch.randn(2, 3, dtype=torch.float64),
    "randint": lambda: torch.randint(9, (4,)),
    "randint between": lambda: torch.randint(3, 9, (4,)),
    "randperm": lambda: torch.randperm(9),
    "bernoulli": lambda: torch.bernoulli(torch.full((9,), 0.5)),
    "normal": lambda: torch.normal(0.0, 1.0, (5,)),
    "normal_": lambda: torch.empty(40).normal_(),
    "uniform_": lambda: torch.empty(5).uniform_(-1, 1),
    "random_": lambda: torch.empty(5, dtype=torch.int64).random_(),
    "multinomial": lambda: torch.multinomial(torch.ones(6), 3),
    "kaiming": lambda: nn.init.kaiming_uniform_(torch.empty(3, 4)),
    "orthogonal": lambda: nn.init.orthogonal_(torch.empty(3, 4)),
    "trunc": lambda: nn.init.trunc_normal_(torch.empty(3, 4)),
    "a layer": lambda: nn.LSTM(3, 4).weight_hh_l0.detach(),
}


@pytest.fixture(params=["alone", "beside a thread"])
def _threads(request: pytest.FixtureRequest) -> Generator[None]:
    """Beside another thread the process's generator is never touched."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    if request.param == "beside a thread":
        thread.start()
    yield
    stop.set()
    if thread.ident is not None:
        thread.join()


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("kind", DRAWS)
def test_the_same_numbers_are_drawn(kind: str) -> None:
    draw = DRAWS[kind]
    torch.manual_seed(11)
    expected = [draw(), draw()]
    torch.manual_seed(11)
    state = torch.get_rng_state()
    with own_draws():
        own = [draw(), draw()]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, own, expected))
    assert torch.equal(draw(), expected[0])


@pytest.mark.usefixtures("_threads")
def test_a_generator_that_is_given_is_used_and_meta_draws_nothing() -> None:
    given, twin = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    state = torch.get_rng_state()
    with own_draws():
        assert torch.equal(torch.rand(3, generator=given), torch.rand(3, generator=twin))
        assert torch.empty(3, device="meta").normal_().is_meta
    assert torch.equal(torch.get_rng_state(), state)


def test_beside_a_thread_the_state_is_not_touched_in_between_either() -> None:
    stop, states = threading.Event(), []
    state = torch.get_rng_state()

    def look() -> None:
        while not stop.is_set():
            states.append(torch.equal(torch.get_rng_state(), state))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        while len(states) < 20:
            with own_draws():
                nn.Conv2d(8, 8, 3)
    finally:
        stop.set()
        thread.join()
    assert all(states)
