from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from attnzoo.kernels import scale_and_shift


def _norm(**options: object) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(3, **options)
    for tensor in (norm.weight, norm.bias):
        if tensor is not None:
            nn.init.normal_(tensor)
    return norm


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"track_running_stats": False}])
def test_is_the_layer_and_moves_its_statistics(training: bool, options: dict[str, object]) -> None:
    norm = _norm(**options).train(training)
    twin = copy.deepcopy(norm)
    for step in range(3):
        x = (torch.randn(2, 3, 4, 5) * 3 + step).requires_grad_()
        found, expected = scale_and_shift(norm, x), twin(x)
        assert found is not None
        y = x * found[0] + found[1]
        torch.testing.assert_close(y, expected)
        seed = torch.randn_like(y)
        ours = torch.autograd.grad(y, [x, *norm.parameters()], seed)
        theirs = torch.autograd.grad(expected, [x, *twin.parameters()], seed)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for one, other in zip(norm.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_derivatives() -> None:
    norm = _norm().double()
    x = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor) -> torch.Tensor:
        scale, shift = scale_and_shift(norm, x) or (x, x)
        return x * scale + shift

    assert gradcheck(run, (x,))
    assert gradgradcheck(run, (x,))


def test_other_layers_run_themselves() -> None:
    x = torch.randn(2, 3, 4, 5)
    watched = _norm()
    watched.register_forward_hook(lambda *_: None)
    for norm in (watched, nn.GroupNorm(1, 3), nn.SyncBatchNorm(3), _norm(affine=False)):
        assert scale_and_shift(norm, x) is None
    assert scale_and_shift(_norm(), x.half()) is None
    plain = _norm()
    assert torch.func.vmap(lambda t: t * (scale_and_shift(plain, t) is None))(x[None]).any()


def test_a_single_value_goes_by_the_running_statistics() -> None:
    norm = _norm().train()
    norm.running_mean.fill_(2.0)
    found = scale_and_shift(norm, torch.full((1, 3, 1, 1), 2.0))
    assert found is not None
    torch.testing.assert_close(2.0 * found[0] + found[1], norm.bias.view(1, 3, 1, 1))
    assert (norm.running_mean == 2).all()
