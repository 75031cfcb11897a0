"""Gradients: they reach everything, are right, and are the same in every run."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attnzoo.testing.block.subject import BlockSubject
from attnzoo.testing.contract import BreachError

__all__ = ["cuda", "deterministic", "every_parameter", "numerical"]

# Operations that torch.use_deterministic_algorithms refuses, or documents as random, on CUDA.
RANDOM_BACKWARD = {
    "_adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "grid_sampler_2d",
    "median",
    "reflection_pad2d",
    "replication_pad2d",
    "upsample_bicubic2d",
    "upsample_bilinear2d",
}


def every_parameter(subject: BlockSubject) -> None:
    """The input and every parameter get a finite gradient that is not zero."""
    shape = subject.fit(4, 64, 6, 6)
    block = subject.randomised(shape[1])
    x = torch.randn(shape, requires_grad=True)
    (block(x) * torch.randn(shape)).sum().backward()
    for path, tensor in [("the input", x), *block.named_parameters()]:
        if tensor.grad is None:
            raise BreachError(f"{path} gets no gradient")
        if not tensor.grad.isfinite().all():
            raise BreachError(f"the gradient of {path} is not finite")
        if not tensor.grad.any():
            raise BreachError(f"the gradient of {path} is zero")


def numerical(subject: BlockSubject) -> None:
    """Gradients are those of finite differences, in training and in eval mode."""
    # A block that draws numbers in training computes another function at every point.
    modes = (False,) if "determinism" in subject.limits else (True, False)
    for training in modes:
        shape = subject.fit(2, 3, 2, 3)
        block = subject.randomised(shape[1]).double().train(training)
        parameters = dict(block.named_parameters())

        def forward(x: Tensor, *values: Tensor, block=block, parameters=parameters) -> Tensor:
            named = dict(zip(parameters, values, strict=True))
            return torch.func.functional_call(block, named, (x,))

        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        torch.autograd.gradcheck(forward, (x, *parameters.values()), fast_mode=True)


def cuda(subject: BlockSubject) -> None:
    """No operation is used whose backward pass is random on CUDA."""

    class Recorder(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.called: set[str] = set()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.called.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    shape = subject.fit(2, 8, 6, 6)
    block = subject.randomised(shape[1])
    with Recorder() as recorder:
        block(torch.randn(shape, requires_grad=True))
    found = recorder.called & RANDOM_BACKWARD
    if found:
        raise BreachError(f"uses {', '.join(sorted(found))}, whose backward pass is random on CUDA")


def deterministic(subject: BlockSubject) -> None:
    """Two runs give the same map and gradients, bit for bit."""
    shape = subject.fit(2, 17, 9, 9)
    block = subject.randomised(shape[1])
    x = torch.randn(shape)

    def run() -> list[Tensor]:
        inputs = [x.clone().requires_grad_(), *block.parameters()]
        y = block(inputs[0])
        # What gets no gradient is told by another check.
        total = y.square().sum()
        made = torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)
        return [y.detach(), *made]

    with _deterministic_algorithms():
        first, second = run(), run()
    names = ["the map", "the gradient of the input"]
    names += [f"the gradient of {path}" for path, _ in block.named_parameters()]
    for name, one, other in zip(names, first, second, strict=True):
        if not torch.equal(one, other):
            raise BreachError(f"{name} is another in a second run")


@contextmanager
def _deterministic_algorithms() -> Generator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
