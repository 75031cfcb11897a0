"""A block to be checked: how it is built, and which maps it takes."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.errors import OptionError
from attnzoo.registry import BLOCKS, BlockSpec, Limit
from attnzoo.testing.contract import BreachError, NotRunError

__all__ = ["BlockSubject", "apply", "randomised", "tiny_numbers_are_zero"]

#: Heights and widths that are tried where a block's limit on shapes refuses the ones at hand.
_SIZES = ((8, 8), (16, 16), (7, 7), (14, 14), (32, 32))
#: So many channel counts are tried from the one at hand on.
_CHANNELS = 32


@dataclass(frozen=True, eq=False)
class BlockSubject:
    """A block with the options it is to be built with.

    Attributes:
        spec: what the registry knows about it; the bare factory for one that is not registered.
        options: of the block.
        registered: whether it has a name by which `wrap` finds it.
    """

    spec: BlockSpec
    options: Mapping[str, Any] = field(default_factory=dict)
    registered: bool = True
    _fitting: dict[tuple[int, ...], tuple[int, ...] | None] = field(
        default_factory=dict, repr=False
    )

    @classmethod
    def of(cls, block: str | Callable[..., nn.Module], options: Mapping[str, Any]) -> BlockSubject:
        """The block of that name, or that a class or function makes.

        Raises:
            UnknownNameError: no block has that name.
            OptionError: it is neither a name nor can it be called.
        """
        if isinstance(block, str):
            return cls(BLOCKS[block], options)
        if isinstance(block, nn.Module) or not callable(block):
            raise OptionError(
                f"check_block: block={block!r} must be a registered name, or a class or function "
                f"that is called as block(channels, **options)."
            )
        spec = next((spec for spec in BLOCKS if spec.factory is block), None)
        if spec is not None:
            return cls(spec, options)
        name = getattr(block, "__name__", type(block).__name__)
        return cls(BlockSpec(name, block, "both"), options, registered=False)

    def __str__(self) -> str:
        given = "".join(f", {option}={value!r}" for option, value in self.options.items())
        return f"block {self.spec.name!r}{given}"

    @property
    def limits(self) -> dict[Limit, str]:
        """The limits that apply to the options at hand, and why."""
        return {what: why for what, why in self.spec.limits.items() if self._is_under(what)}

    def _is_under(self, limit: Limit) -> bool:
        shown = self.spec.limited_with.get(limit, {})
        defaults = self.spec.options
        return not shown or any(
            option in self.options and self.options[option] != defaults[option] for option in shown
        )

    @property
    def missing(self) -> list[str]:
        """Options that must be given, and are not."""
        required = inspect.Parameter.empty
        options = self.spec.options.items()
        return [name for name, value in options if value is required and name not in self.options]

    def build(self, channels: int) -> nn.Module:
        return self.spec.build(channels, **self.options)

    def randomised(self, channels: int) -> nn.Module:
        """The block with random parameters, so that no zero start hides anything."""
        return randomised(self.build(channels))

    def fit(self, n: int, c: int, h: int, w: int) -> tuple[int, ...]:
        """The shape of a map that the block takes: this one, or one near by under a limit.

        Raises:
            NotRunError: it takes none of those that are tried.
        """
        if "shapes" not in self.limits:
            return n, c, h, w
        asked = (n, c, h, w)
        if asked not in self._fitting:
            counts, sizes = range(c, c + _CHANNELS), ((h, w), *_SIZES)
            shapes = ((n, count, *size) for count, size in itertools.product(counts, sizes))
            self._fitting[asked] = next(filter(self._takes, shapes), None)
        found = self._fitting[asked]
        if found is None:
            raise NotRunError(f"no map like {asked} was found that the block takes")
        return found

    def others_of(self, shapes: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Shapes for a program that was made with a map like 8×6×4: these, or under a limit others.

        Raises:
            NotRunError: the block takes maps of one size only.
        """
        if "shapes" not in self.limits:
            return list(shapes)
        _, channels, *size = self.fit(2, 8, 6, 4)
        others = [(3, channels, *other) for other in ((16, 12), (4, 4), *_SIZES)]
        found: list[tuple[int, ...]] = [
            shape for shape in others if [*shape[2:]] != size and self._takes(shape)
        ]
        if not found:
            raise NotRunError(f"no map was found that the block takes but {(channels, *size)}")
        return found

    def _takes(self, shape: tuple[int, ...]) -> bool:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            try:
                self.build(shape[1])(torch.randn(shape))
            except Exception:
                return False
        return True

    @cached_property
    def exported(self) -> tuple[nn.Module, torch.export.ExportedProgram]:
        """The block and its program, of any batch, height and width, which two checks look at."""
        shape = self.fit(2, 8, 6, 4)
        block = self.randomised(shape[1]).eval()
        free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
        return block, torch.export.export(block, (torch.randn(shape),), dynamic_shapes=(free,))


@torch.no_grad()
def randomised(block: nn.Module) -> nn.Module:
    """The block, its parameters drawn anew."""
    for parameter in block.parameters():
        parameter.normal_(0, 0.5)
    return block


def apply(block: nn.Module, x: Tensor) -> Tensor:
    """What the block makes of a map, once it is sure to be a map of that shape."""
    before, version = x.clone(), x._version
    y = block(x)
    shape = tuple(x.shape)
    if not isinstance(y, Tensor):
        raise BreachError(f"returns a {type(y).__name__}, not a tensor", excusable=False)
    if y.shape != shape:
        raise BreachError(f"turns a map of {shape} into {tuple(y.shape)}", excusable=False)
    if x._version != version or not torch.equal(x, before):
        raise BreachError(f"changes its input in place, a map of {shape}", excusable=False)
    if not y.isfinite().all():
        raise BreachError(f"makes numbers that are not finite of a map of {shape}", excusable=False)
    return y


@contextmanager
def tiny_numbers_are_zero() -> Generator[None]:
    """Softmaxes over large maps are full of denormal numbers, with which a CPU is slow."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
