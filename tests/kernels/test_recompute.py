from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from attnzoo.kernels.recompute import recomputed


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
