"""What is exported: a model that takes tensors and returns tensors, and inputs of several shapes.

Exporters know tensors, and tuples of them. Where a model takes or returns lists or dicts, a module
stands around it that takes them apart.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import AvgPool2dSame, Conv2dSame
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from attnzoo.hosts import bare
from attnzoo.surgery import recipes
from attnzoo.tracing import example_told, resolve_example

__all__ = ["STRIDE", "Free", "Subject", "subject_of"]

SAME = (Conv2dSame, AvgPool2dSame)
STRIDE = 32
"""Free sizes are multiples of it. Most networks halve five times, so that every map's size is a
multiple, too; of any size, torch would carry roundings through the whole network, for minutes."""

Free = tuple[str, ...]
"""What may differ from the example: `"batch"`, `"size"`."""


class _Flat(nn.Module):
    """A model between lists of tensors."""

    def __init__(self, model: nn.Module, spec: TreeSpec, fixed: dict[int, Any]) -> None:
        super().__init__()
        self.model = model
        self.spec = spec
        self.fixed = fixed

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors)
        count = len(tensors) + len(self.fixed)
        leaves = [self.fixed[i] if i in self.fixed else next(given) for i in range(count)]
        args, kwargs = tree_unflatten(leaves, self.spec)
        made = tree_leaves(self.model(*args, **kwargs))
        return tuple(leaf for leaf in made if isinstance(leaf, Tensor))


@dataclass(frozen=True)
class Subject:
    """A model ready to be exported.

    Attributes:
        model: a copy, in eval mode, on the CPU, contiguous.
        inputs: the example's tensors, in order.
    """

    model: nn.Module
    inputs: tuple[Tensor, ...]

    def ways(self) -> tuple[Free, ...]:
        """What to leave free, the most first."""
        batches = {len(x) if x.ndim else 0 for x in self.inputs}
        if len(batches) != 1 or 0 in batches:
            return ((),)
        sides = self.inputs[0].shape[2:]
        image = len(self.inputs) == 1 and len(sides) == 2
        # TensorFlow's padding is worked out from the size at every layer: torch would take minutes
        # to hours to carry that through a network.
        padded = any(isinstance(module, SAME) for module in self.model.modules())
        if not image or padded or any(side % STRIDE for side in sides):
            return (("batch",), ())
        return (("batch", "size"), ("batch",), ("size",), ())

    def example(self, free: Free) -> tuple[Tensor, ...]:
        """What to trace with: of one of anything, torch.export would make a constant."""
        return tuple(
            self._shaped(x, 2 if "batch" in free else len(x), free) if free else x
            for x in self.inputs
        )

    def _shaped(self, x: Tensor, batch: int, free: Free) -> Tensor:
        sides = x.shape[1:]
        if "size" in free:
            sides = (x.shape[1], *(max(side, 2 * STRIDE) for side in x.shape[2:]))
        return _of_shape(x, (batch, *sides))

    def tried(self, free: Free) -> list[tuple[Tensor, ...]]:
        """Inputs to compare on: the example first, then of other batches and sizes."""
        first = tuple(x if "batch" not in free else _of_shape(x, x.shape) for x in self.inputs)
        found = [first]
        if "batch" in free:
            found.append(tuple(_of_shape(x, (len(x) + 2, *x.shape[1:])) for x in self.inputs))
        if "size" in free:
            (x,) = self.inputs
            rows, columns = x.shape[2:]
            other = (len(x), x.shape[1], rows + 2 * STRIDE, columns + STRIDE)
            found.append((_of_shape(x, other),))
        return found

    def dynamic(self, free: Free) -> Any:
        """The free axes, as `torch.export` takes them."""
        if not free:
            return None
        axes: dict[int, Any] = {0: torch.export.Dim.DYNAMIC} if "batch" in free else {}
        if "size" in free:
            rows, columns = torch.export.Dim("rows"), torch.export.Dim("columns")
            axes |= {2: STRIDE * rows, 3: STRIDE * columns}
        shapes = tuple(axes for _ in self.inputs)
        return {"tensors": shapes} if isinstance(self.model, _Flat) else shapes

    def outputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """What the model returns."""
        return [leaf for leaf in tree_leaves(self.model(*inputs)) if isinstance(leaf, Tensor)]


def subject_of(model: nn.Module, example: Any) -> Subject:
    """A model and an example, as `wrap` takes them, ready to be exported.

    Where no example is given, the one that attention was put in with is taken, or the model's
    default size.
    """
    model = copy.deepcopy(bare(model)).cpu().eval().to(memory_format=torch.contiguous_format)
    if example is None:
        for recipe in recipes(model):
            told = recipe.arguments
            example = recipe.input_size if told is None else example_told(told)
    args, kwargs = resolve_example(model, example, "cpu")
    leaves, spec = tree_flatten((args, kwargs))
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(_filled(leaf, generator) for leaf in leaves if isinstance(leaf, Tensor))
    fixed = {i: leaf for i, leaf in enumerate(leaves) if not isinstance(leaf, Tensor)}
    plain = not kwargs and not fixed and all(isinstance(arg, Tensor) for arg in args)
    with torch.no_grad():
        made = model(*args, **kwargs)
    flat = isinstance(made, Tensor) or (
        type(made) is tuple and all(isinstance(one, Tensor) for one in made)
    )
    return Subject(model if plain and flat else _Flat(model, spec, fixed).eval(), inputs)


def _filled(x: Tensor, generator: torch.Generator) -> Tensor:
    """The tensor as it is, unless it stands for a size and holds nothing."""
    if x.is_floating_point() and not x.any():
        return torch.randn(x.shape, generator=generator).to(x.dtype)
    return x


def _of_shape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """An input like x of another shape; of whole numbers, its own are repeated."""
    if x.is_floating_point():
        generator = torch.Generator().manual_seed(sum(shape))
        return torch.randn(tuple(shape), generator=generator).to(x.dtype)
    repeats = [-(-size // max(own, 1)) for size, own in zip(shape, x.shape, strict=True)]
    return x.repeat(repeats)[tuple(slice(size) for size in shape)].clone()
