"""Parameters, multiply-accumulate operations and bytes of activations, counted on meta tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attnzoo.tracing.meta_ops import FastShapes
from attnzoo.tracing.probe import follow, how_it_ended
from attnzoo.tracing.twin import Twin
from attnzoo.tracing.values import Values

__all__ = ["Count", "count"]


@dataclass(frozen=True)
class Count:
    """What one forward pass takes.

    Attributes:
        macs: multiply-accumulate operations of convolutions, matrix products and attention
            products (half the floating-point operations torch counts).
        activation_bytes: of all tensors that the pass makes, views and in-place results not
            counted. What training keeps for the backward pass is at most this.
        stopped: why it could not be followed, and so counted, to its end, and the line of code
            where; empty if it was.
    """

    macs: int
    activation_bytes: int
    stopped: str = ""


def count(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], example: Any = None
) -> Count:
    """Count one forward pass in eval mode; no arithmetic is done and no memory taken.

    Args:
        model: read and not changed.
        args: its arguments, tensors on meta.
        kwargs: those by name.
        example: what they were made of, for its values, should the pass ask for them.

    Raises:
        TraceError: the forward pass failed.
    """
    from torch.utils.flop_counter import FlopCounterMode  # not above: it loads Triton

    flops, made = FlopCounterMode(display=False), _Bytes()
    # Torch's own would hang hooks on the modules of all threads, and ask for named_modules.
    flops.mod_tracker = cast("Any", _OneModule())
    twin = Twin(model)
    shapes = FastShapes(Values(twin.original, (args, kwargs), example))
    watching = (flops, made)
    _, error = follow(twin.root, args, kwargs, shapes, lambda: True, None, watching, grad=True)
    stopped = how_it_ended(error) if error else ""
    return Count(flops.get_total_flops() // 2, made.total, stopped)


class _OneModule:
    """All that runs is one module's, for a counter that adds up module by module."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class _Bytes(TorchDispatchMode):
    """Adds up the bytes of every tensor that does not share its storage with an input."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, Tensor)
        }
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in given:
                self.total += leaf.numel() * leaf.element_size() * bool(given)
        return result
