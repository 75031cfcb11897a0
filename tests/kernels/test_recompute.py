from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from attnzoo.kernels.recompute import convolved, recomputed


class Layers(nn.Module):
    """Several tensors from one, by layers with statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.calls = 0

    def forward(self, x: Tensor) -> list[Tensor]:
        self.calls += 1
        y = self.norm(self.conv(x))
        return [y.sigmoid(), y.mean((2, 3))]


def _loss(results: list[Tensor]) -> Tensor:
    return results[0].square().sum() + results[1].sin().sum()


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_the_same_and_statistics_move_once(training: bool) -> None:
    torch.manual_seed(1)
    layers, twin = Layers().double().train(training), Layers().double().train(training)
    twin.load_state_dict(layers.state_dict())
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    one = torch.autograd.grad(
        _loss(recomputed(layers, x, module=layers)), [x, *layers.parameters()]
    )
    other = torch.autograd.grad(_loss(twin(x)), [x, *twin.parameters()])
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)
    assert layers.calls == 2
    for a, b in zip(layers.buffers(), twin.buffers(), strict=True):
        assert torch.equal(a, b)
    assert layers.norm.track_running_stats


def test_can_be_differentiated_twice() -> None:
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)

    def through(x: Tensor) -> Tensor:
        return _loss(recomputed(lambda x: [x.sin(), (x * x).sum()], x))

    assert gradcheck(through, (x,))
    assert gradgradcheck(through, (x,))


def test_second_derivatives_reach_the_parameters() -> None:
    layers, twin = Layers().double(), Layers().double()
    twin.load_state_dict(layers.state_dict())
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)

    def penalty(results: list[Tensor], parameters: list[Tensor]) -> list[Tensor]:
        (gradient,) = torch.autograd.grad(_loss(results), x, create_graph=True)
        return list(torch.autograd.grad(gradient.square().sum(), parameters, allow_unused=True))

    one = penalty(recomputed(layers, x, module=layers), list(layers.parameters()))
    other = penalty(twin(x), list(twin.parameters()))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


def test_only_the_tensors_are_kept() -> None:
    kept: set[int] = set()

    def keep(t: Tensor) -> Tensor:
        kept.add(t.data_ptr())
        return t

    layers = Layers()
    x = torch.randn(4, 3, 8, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        recomputed(layers, x, module=layers)
    assert kept == {t.data_ptr() for t in (x, *layers.parameters())}


def test_the_backward_pass_runs_under_the_autocast_of_the_forward_pass() -> None:
    seen: list[torch.dtype] = []
    conv = nn.Conv2d(3, 3, 1)

    def run(x: Tensor) -> list[Tensor]:
        y = conv(x)
        seen.append(y.dtype)
        return [y]

    x = torch.randn(1, 3, 4, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        (y,) = recomputed(run, x, module=conv)
    y.float().sum().backward()
    (y,) = recomputed(run, x, module=conv)
    with torch.autocast("cpu", torch.bfloat16):
        y.sum().backward()
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    assert conv.weight.grad is not None


def test_without_a_backward_pass_it_is_a_call() -> None:
    layers = Layers()
    x = torch.randn(1, 3, 4, 4)
    with torch.no_grad():
        first, _ = recomputed(layers, x, module=layers)
    assert first.grad_fn is None
    assert layers.calls == 1
    first, _ = recomputed(lambda x: [x, x], x)
    assert first is x


def test_a_gradient_that_is_changed_by_a_hook_is_changed_once() -> None:
    layers, twin = Layers(), Layers()
    twin.load_state_dict(layers.state_dict())
    x = torch.randn(4, 3, 2, 2)
    for each in (layers, twin):
        each.conv.weight.register_hook(lambda g: 10 * g)
    _loss(recomputed(layers, x, module=layers)).backward()
    _loss(twin(x)).backward()
    for a, b in zip(layers.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_layers_that_run_twice_have_the_gradient_of_both() -> None:
    layers, twin = Layers().double(), Layers().double()
    twin.load_state_dict(layers.state_dict())
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    first, _ = recomputed(layers, x, module=layers)
    _loss(recomputed(layers, first, module=layers)).backward()
    first, _ = twin(x)
    _loss(twin(first)).backward()
    for a, b in zip(layers.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


class Tied(nn.Module):
    """A layer under two names, and a weight that two layers have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.again = nn.Conv2d(3, 3, 1)
        self.other = nn.Conv2d(3, 3, 1)
        self.other.weight = self.first.weight

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.other(self.again(self.first(x).sin()).sin())]


@pytest.mark.parametrize("hooked", [False, True])
def test_tied_layers_stay_as_they_are(hooked: bool) -> None:
    layers, twin = Tied().double(), Tied().double()
    twin.load_state_dict(layers.state_dict())
    held = [p for layer in (layers.first, layers.other) for p in layer.parameters()]
    if hooked:
        for each in (layers, twin):
            each.first.weight.register_hook(lambda g: 2 * g)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)

    def both(results: list[Tensor], parameters: list[Tensor]) -> list[Tensor]:
        (y,) = results
        found = torch.autograd.grad(y.square().sum(), [x, *parameters], create_graph=True)
        second = torch.autograd.grad(found[0].square().sum(), parameters, allow_unused=True)
        return [*found, *(t for t in second if t is not None)]

    one = both(recomputed(layers, x, module=layers), list(layers.parameters()))
    other = both(twin(x), list(twin.parameters()))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)
    recomputed(layers, x, module=layers)[0].sum().backward()
    twin(x)[0].sum().backward()
    for a, b in zip(layers.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    now = [p for layer in (layers.first, layers.other) for p in layer.parameters()]
    assert all(a is b for a, b in zip(held, now, strict=True))


# --- a convolution that is not run again ----------------------------------------------------------


def _norm_and_conv(bias: bool = True) -> tuple[nn.BatchNorm2d, nn.Conv2d]:
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(4).double()
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, bias=bias).double()
    return norm, conv


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_what_is_made_again(training: bool, bias: bool) -> None:
    (norm, conv), (other_norm, other_conv) = _norm_and_conv(bias), _norm_and_conv(bias)
    for each in (norm, conv, other_norm, other_conv):
        each.train(training)
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = convolved(lambda t: norm(t).relu(), x, conv, module=norm)
    assert {t.data_ptr() for t in kept} == {
        t.data_ptr() for t in (x, *norm.parameters(), *conv.parameters())
    }
    expected = other_conv(other_norm(x).relu())
    assert torch.equal(y, expected)
    seed = torch.randn_like(y)
    one = torch.autograd.grad(y, [x, *norm.parameters(), *conv.parameters()], seed)
    theirs = [x, *other_norm.parameters(), *other_conv.parameters()]
    for a, b in zip(one, torch.autograd.grad(expected, theirs, seed), strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(norm.buffers(), other_norm.buffers(), strict=True):
        assert torch.equal(a, b)


def test_a_convolution_can_be_differentiated_twice_and_be_frozen() -> None:
    norm, conv = _norm_and_conv()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64, requires_grad=True)

    def through(x: Tensor, weight: Tensor) -> Tensor:
        return convolved(lambda t: norm(t).sin(), x, conv, module=norm) * weight.sum()

    assert gradcheck(through, (x, conv.weight))
    assert gradgradcheck(through, (x, conv.weight))
    conv.requires_grad_(False)
    (gradient,) = torch.autograd.grad(
        convolved(lambda t: norm(t).sin(), x, conv, module=norm).square().sum(), x
    )
    (expected,) = torch.autograd.grad(conv(norm(x).sin()).square().sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_a_convolution_under_autocast() -> None:
    norm, conv = (layer.float() for layer in _norm_and_conv())
    x = torch.randn(2, 4, 7, 7, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = convolved(lambda t: norm(t).relu(), x, conv, module=norm)
        expected = conv(norm(x).relu())
    assert y.dtype == torch.bfloat16
    seed = torch.randn_like(y)
    asked = [x, *norm.parameters(), *conv.parameters()]
    for a, b in zip(*(torch.autograd.grad(t, asked, seed) for t in (y, expected)), strict=True):
        torch.testing.assert_close(a, b)
