from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from attnzoo.kernels.statistics import before_mean, deviation, mean, mean_and_maximum, squares

AXES = [(1,), (2,), (3,), (2, 3)]


def _plain(x: Tensor, axes: tuple[int, ...], channel: Tensor | None) -> list[Tensor]:
    z = x if channel is None else x * channel
    return [z.mean(axes, keepdim=True), z.amax(axes, keepdim=True)]


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_is_the_formula_and_so_are_its_gradients(
    axes: tuple[int, ...], gated: bool, layout: torch.memory_format
) -> None:
    # After a ReLU, so that many values are equal, and all of some planes.
    x = (torch.randn(2, 3, 4, 5) - 0.5).relu().contiguous(memory_format=layout)
    x[0, 1] = 0
    x.requires_grad_()
    channel = torch.rand(2, 3, 1, 1, requires_grad=True) if gated else None
    inputs = [x] if channel is None else [x, channel]
    found, expected = mean_and_maximum(x, axes, channel), _plain(x, axes, channel)
    seeds = [torch.randn_like(y) for y in expected]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    ours = torch.autograd.grad(found, inputs, seeds)
    for one, other in zip(ours, torch.autograd.grad(expected, inputs, seeds), strict=True):
        torch.testing.assert_close(one, other)
    assert ours[0].stride() == x.stride()


@pytest.mark.parametrize("axes", AXES)
def test_first_and_second_derivatives(axes: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    channel = torch.rand(2, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    for inputs in ((x,), (x, channel)):

        def run(x: Tensor, *gate: Tensor) -> tuple[Tensor, Tensor]:
            return mean_and_maximum(x, axes, *gate)

        assert gradcheck(run, inputs)
        assert gradgradcheck(run, inputs)


def test_the_gated_map_is_not_kept() -> None:
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    channel = torch.rand(2, 3, 1, 1, requires_grad=True)
    kept: set[int] = set()

    def keep(t: Tensor) -> Tensor:
        kept.add(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        mean_and_maximum(x, (1,), channel)
    assert kept == {x.numel(), channel.numel(), 2 * 8 * 8}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_many_equal_maxima_share_a_gradient_in_half_precision(dtype: torch.dtype) -> None:
    x = torch.ones(1, 1, 300, 300, dtype=dtype, requires_grad=True)
    _, maximum = mean_and_maximum(x, (2, 3))
    maximum.sum().mul(9e4).backward() if dtype == torch.bfloat16 else maximum.backward(
        torch.full_like(maximum, 6e4)
    )
    expected = 1.0 if dtype == torch.bfloat16 else 6e4 / 9e4
    torch.testing.assert_close(x.grad, torch.full_like(x, expected), rtol=0.01, atol=0)


# --- means whose gradient takes no map, deviations as a norm -------------------------------------


@pytest.mark.parametrize("axes", [[1], [2], [3], [2, 3]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("keepdim", [True, False])
def test_mean_is_that_of_torch(axes: list[int], dtype: torch.dtype, keepdim: bool) -> None:
    x = (1e4 * torch.rand(2, 3, 8, 9)).to(dtype).requires_grad_()
    found, expected = mean(x, axes, keepdim), x.mean(axes, keepdim=keepdim)
    assert torch.equal(found, expected)
    seed = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad(y, x, seed)[0] for y in (found, expected))
    torch.testing.assert_close(ours, theirs)
    if dtype == torch.float32:
        assert not ours.is_contiguous(), "a map was made for what is the same along the axes"


def test_derivatives_of_mean_deviation_and_squares() -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    for run in (
        lambda x: mean(x, [2, 3]),
        lambda x: deviation(x - mean(x, [2, 3]), (2, 3)),
        lambda x: squares(x, [2, 3]),
    ):
        assert gradcheck(run, (x,))
        assert gradgradcheck(run, (x,))


def test_deviation_is_that_of_torch_also_of_equal_values() -> None:
    x = torch.randn(2, 3, 8, 9)
    x[0, 1] = 3
    x.requires_grad_()
    found = deviation(x - x.mean((2, 3), keepdim=True), (2, 3))
    torch.testing.assert_close(found, x.std((2, 3), correction=0, keepdim=True))
    found.sum().backward()
    assert x.grad.isfinite().all()
    assert (x.grad[0, 1] == 0).all()


def test_squares_are_differentiated_twice_where_a_plane_is_zero() -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    x[0, 1] = 0  # as behind a ReLU
    x.requires_grad_()
    found = squares(x, [2, 3])
    torch.testing.assert_close(found, x.square().sum((2, 3), keepdim=True))
    torch.testing.assert_close(found, squares(x.detach(), [2, 3]))
    (first,) = torch.autograd.grad(found.sum(), x, create_graph=True)
    torch.testing.assert_close(first, 2 * x)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert (second == 2).all()


def _pooled(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), *layers)


def test_layers_that_begin_with_the_mean_are_given_it() -> None:
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    layers = _pooled(nn.Conv2d(3, 3, 1))
    given = before_mean(x, layers)
    assert given.shape == (2, 3, 1, 1)
    assert torch.equal(layers(given), layers(x))
    ours, theirs = (torch.autograd.grad(layers(t).sum(), x)[0] for t in (given, x))
    torch.testing.assert_close(ours, theirs)


def test_others_are_given_the_map() -> None:
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    watched, watched_within = _pooled(), _pooled(nn.Conv2d(3, 3, 1))
    watched.register_forward_pre_hook(lambda *_: None)
    watched_within[1].register_forward_hook(lambda *_: None)
    largest = nn.Sequential(nn.AdaptiveMaxPool2d(1))
    four, empty = nn.Sequential(nn.AdaptiveAvgPool2d(2)), nn.Sequential()
    for layers in (watched, watched_within, largest, four, empty, nn.AdaptiveAvgPool2d(1)):
        assert before_mean(x, layers) is x
    with torch.no_grad():
        assert before_mean(x, _pooled()) is x
