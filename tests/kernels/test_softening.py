from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from zoo import same_bits

from attnzoo.kernels.softening import added, softened

SHAPE = (2, 3, 4, 5)


def _gamma(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([0.0, 0.5, -0.3], dtype=dtype).view(1, -1, 1, 1).requires_grad_()


def test_is_the_formula_and_can_be_differentiated_twice() -> None:
    base, y = torch.randn(2, *SHAPE, dtype=torch.float64, requires_grad=True)
    gamma = _gamma()
    torch.testing.assert_close(softened(base, y, gamma), base + gamma * (y - base))
    assert gradcheck(softened, (base, y, gamma))
    assert gradgradcheck(softened, (base, y, gamma))


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gamma_of_zero_is_the_base_bit_for_bit(dtype: torch.dtype, recorded: bool) -> None:
    wild = [-0.0, 0.0, float("inf"), -float("inf"), float("nan"), 6e4, -6e4, 1.0]
    pairs = torch.cartesian_prod(torch.tensor(wild), torch.tensor(wild)).to(dtype)
    base, y = (pairs[:, i].view(1, 1, 8, 8).expand(2, 3, 8, 8).clone() for i in (0, 1))
    run = softened
    if recorded:
        torch._dynamo.reset()
        run = torch.compile(softened, backend="eager", fullgraph=True)
    result = run(base, y.requires_grad_(), _gamma(dtype))
    assert same_bits(result[:, 0].detach(), base[:, 0])
    (gradient,) = torch.autograd.grad(result[:, 0].nansum(), y)
    assert not gradient[:, 0].nan_to_num().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_eager_rounds_as_the_recorded_formula_does(dtype: torch.dtype) -> None:
    base, y = torch.randn(2, 2, 3, 16, 16, dtype=dtype)
    gamma = _gamma(dtype).detach()
    torch._dynamo.reset()
    recorded = torch.compile(softened, backend="eager", fullgraph=True)(base, y, gamma)
    assert same_bits(softened(base, y, gamma), recorded)
    assert same_bits(softened(base, y, gamma.requires_grad_()).detach(), recorded)


def test_the_dtype_is_that_of_the_base() -> None:
    base, y = torch.randn(SHAPE, dtype=torch.bfloat16), torch.randn(SHAPE)
    gamma = _gamma(torch.float32)
    result = softened(base, y, gamma)
    assert result.dtype == torch.bfloat16
    result.sum().backward()
    assert gamma.grad.dtype == torch.float32
    assert gamma.grad.abs().min() > 0


def test_per_sample_gradients_equal_the_loop() -> None:
    base, y = torch.randn(2, *SHAPE, dtype=torch.float64)
    gamma = _gamma().detach()

    def loss(gamma: Tensor, base: Tensor, y: Tensor) -> Tensor:
        return softened(base[None], y[None], gamma).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(gamma, base, y)
    for image in range(2):
        alone = gamma.clone().requires_grad_()
        loss(alone, base[image], y[image]).backward()
        torch.testing.assert_close(found[image], alone.grad)


# --- residual sums --------------------------------------------------------------------------------


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("shape", [SHAPE, (2, 3, 1, 1)])
def test_a_change_of_zero_gives_the_map_bit_for_bit(shape: tuple[int, ...], learns: bool) -> None:
    wild = torch.tensor([-0.0, 0.0, float("inf"), -float("inf"), float("nan"), 1.0])
    x = wild.repeat(20).view(SHAPE).clone().requires_grad_(learns)
    for zero in (0.0, -0.0):
        assert same_bits(added(x, torch.full(shape, zero)).detach(), x.detach())
    change = torch.randn(shape)
    torch.testing.assert_close(added(x, change), x + change, equal_nan=True)
    torch.testing.assert_close(x.detach(), wild.repeat(20).view(SHAPE), equal_nan=True)


@pytest.mark.parametrize("shape", [SHAPE, (2, 3, 1, 1)])
def test_derivatives_of_a_residual_sum(shape: tuple[int, ...]) -> None:
    x = torch.randn(SHAPE, dtype=torch.float64, requires_grad=True)
    change = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert gradcheck(added, (x, change))
    assert gradgradcheck(lambda x, change: added(x, change).square(), (x, change))
