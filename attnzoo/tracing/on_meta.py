"""A forward pass in which meta tensors stand for the model's own.

Not by `torch.func.functional_call`, which leaves meta tensors behind in modules that are registered
under two names and in caches that a forward pass keeps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from attnzoo.tracing.interrupts import waited_for

__all__ = ["meta_forward"]


def meta_forward(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    modes: Sequence[contextlib.AbstractContextManager[Any]] = (),
    *,
    grad: bool = False,
) -> Any:
    """The output of a model on meta, with no arithmetic done.

    Not by `torch.func.functional_call`: it leaves meta tensors in a module that is registered under
    two names, and in whatever a forward pass keeps on its modules (anchors, caches, counters).

    Args:
        model: a twin, or a module that nobody else has in hand: it may keep what it likes of this
            forward pass.
        args: its arguments, tensors on meta.
        kwargs: those by name.
        modes: what the forward pass runs under; the last one sees an operation first.
        grad: compute as for a backward pass, which some blocks do with more memory.
    """
    with torch.set_grad_enabled(grad), contextlib.ExitStack() as stack:
        for mode in modes:
            stack.enter_context(mode)
        with waited_for():
            return model(*args, **kwargs)
