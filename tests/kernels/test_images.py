"""A map a few images at a time: the bits that the whole of it gives, laid out as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from zoo import same_bits

from attnzoo.kernels import images
from attnzoo.kernels.gating import gated_map, plus, times
from attnzoo.kernels.images import at_once, in_turn
from attnzoo.kernels.statistics import mean_and_maximum

N, C, H, W = 5, 6, 4, 7
SIZES = {"c": (N, C, 1, 1), "s": (N, 1, H, W), "h": (N, C, H, 1), "x": (N, C, H, W)}
FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Go through maps so many images at a time from now on; in how many pieces is written down."""

    def begin(count: int) -> list[int]:
        seen: list[int] = []

        def counted(*args: Any) -> Any:
            pieces = list(in_turn(*args))
            seen.append(len(pieces))
            return pieces

        for name in ("gating", "statistics"):
            monkeypatch.setattr(f"attnzoo.kernels.{name}.at_once", lambda x: count)
            monkeypatch.setattr(f"attnzoo.kernels.{name}.in_turn", counted)
        return seen

    return begin


def _results(run: Callable[[], Any], inputs: list[Tensor]) -> list[Tensor]:
    made = run()
    made = [made] if isinstance(made, Tensor) else list(made)
    seeds = [torch.ones_like(y).cumsum(-1) for y in made]
    with torch.no_grad():
        again = run()
    again = [again] if isinstance(again, Tensor) else list(again)
    return [*made, *again, *torch.autograd.grad(made, inputs, seeds)]


def _compare(pieces: list[Tensor], whole: list[Tensor]) -> None:
    for one, other in zip(pieces, whole, strict=True):
        assert one.stride() == other.stride()
        assert same_bits(one, other)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("shapes", ["c", "s", "cs", "hs", "x", "csh"])
@pytest.mark.parametrize("make", [times, plus])
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gated_maps(
    count: int,
    shapes: str,
    make: Any,
    layout: torch.memory_format,
    soft: bool,
    dtype: torch.dtype,
    cut: Callable[[int], list[int]],
) -> None:
    x = torch.randn(N, C, H, W, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    gates = [torch.rand(SIZES[shape], dtype=dtype, requires_grad=True) for shape in shapes]
    gamma = torch.linspace(0, 1, C, dtype=dtype).requires_grad_() if soft else None
    inputs = [x, *gates] if gamma is None else [x, gamma, *gates]

    def run() -> Tensor:
        return gated_map(x, gates, gamma, make=make, scale=2.0)

    whole = _results(run, inputs)
    seen = cut(count)
    _compare(_results(run, inputs), whole)
    assert set(seen) == {-(-N // count)}


@pytest.mark.parametrize("count", [1, 2])
def test_groups_and_gates_that_are_no_numbers(count: int, cut: Callable[[int], list[int]]) -> None:
    x = torch.randn(N, C, H, W, requires_grad=True)
    grouped = torch.rand(N, 2, 1, H, W, requires_grad=True)
    wild = torch.rand(SIZES["s"]).log().mul(torch.inf).requires_grad_()
    gamma = torch.zeros(C).requires_grad_()

    def both() -> list[Tensor]:
        return [gated_map(x, [grouped], gamma + 0.5, groups=2), gated_map(x, [wild], gamma)]

    with torch.no_grad():
        whole = both()
        seen = cut(count)
        _compare(both(), whole)
    assert same_bits(whole[1], x.detach())
    assert set(seen) == {-(-N // count)}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("axes", [(1,), (2, 3), (3,)])
def test_means_and_maxima(
    count: int, axes: tuple[int, ...], cut: Callable[[int], list[int]]
) -> None:
    x = torch.randn(N, C, H, W, requires_grad=True)
    channel = torch.rand(N, C, 1, 1, requires_grad=True)

    def run() -> Any:
        return mean_and_maximum(x, axes, channel)

    whole = _results(run, [x, channel])
    seen = cut(count)
    _compare(_results(run, [x, channel]), whole)
    assert set(seen) == {-(-N // count)}


def test_how_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert at_once(torch.empty(8, 64, 56, 56)) == 1
    assert at_once(torch.empty(8, 512, 14, 14)) == 2
    assert at_once(torch.empty(8, 64, 7, 7)) == 8
    assert at_once(torch.empty(1, 64, 224, 224)) == 1
    assert at_once(torch.empty(4, 0, 7, 7)) == 4
    assert at_once(torch.empty(0, 4, 7, 7)) == 0
    assert at_once(torch.empty(8, 64, 56, 56, device="meta")) == 8
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    assert at_once(torch.empty(8, 64, 56, 56)) == 3  # every thread has its share
    assert images._GRAIN * 16 <= 3 * 64 * 56 * 56


def test_a_real_map_gives_the_same_bits() -> None:
    x, gates = torch.randn(3, 64, 56, 56), [torch.rand(3, 64, 1, 1), torch.rand(3, 1, 56, 56)]
    gamma = torch.randn(64)
    assert at_once(x) < len(x)
    y = gated_map(x, gates, gamma)
    one_by_one = [gated_map(x[i : i + 1], [g[i : i + 1] for g in gates], gamma) for i in range(3)]
    assert same_bits(y, torch.cat(one_by_one))
    statistics = mean_and_maximum(x, (1,), gates[0])
    z = x * gates[0]
    assert same_bits(statistics[0], z.mean(1, keepdim=True))
    assert same_bits(statistics[1], z.amax(1, keepdim=True))
