"""What the operators have in common."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["on_device_of", "through_formula"]


@contextmanager
def on_device_of(x: Tensor) -> Generator[None]:
    """Triton launches on the current device; and no sum is to be rounded by autocast."""
    with torch.cuda.device_of(x), torch.autocast(x.device.type, enabled=False):
        yield


def through_formula(
    formula: Callable[..., Sequence[Tensor | None]],
    inputs: Sequence[Tensor | None],
    gradients: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Gradients of inputs from those of what the formula gives, which can be differentiated again.

    The place of the kernels' own gradients in a backward pass that is itself recorded.
    """
    # Of the inputs by themselves, not through each other: one may have been computed from another.
    given = [t if t is None else t.view_as(t) for t in inputs]
    asked = [t for t in given if t is not None and t.requires_grad]
    results = formula(*given)
    pairs = [(y, g) for y, g in zip(results, gradients, strict=True) if y is not None]
    known = [(y, g) for y, g in pairs if g is not None]
    if not asked or not known:
        return [None] * len(given)
    outputs, seeds = zip(*known, strict=True)
    found = torch.autograd.grad(outputs, asked, seeds, create_graph=True, allow_unused=True)
    rest = iter(found)
    return [next(rest) if t is not None and t.requires_grad else None for t in given]
