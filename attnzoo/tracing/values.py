"""The values that a forward pass on meta asks for: a NaN check, a log, a flag, a scale.

Tensors on meta hold none. Those of parameters, buffers and constants are known: what a pass
computes from them alone is computed when it is asked for, and never before. For a map, one of
numbers between 0 and 1 stands, made by the closest layer, so that the pass goes on as it would for
most images; where it did so is noted.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from attnzoo.tracing.draws import Draws

__all__ = ["Values", "line_of"]

aten = torch.ops.aten

#: Where what is computed from is no longer followed: layers, which the rest of the network feeds.
_LAYERS = frozenset(
    (
        *("convolution", "addmm", "mm", "bmm", "baddbmm"),
        *("native_batch_norm", "native_layer_norm", "native_group_norm"),
        *("max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d"),
    )
)
#: How many operations behind one answer are computed; beyond, a map stands as behind a layer.
_STEPS = 50
#: How many one line may ask for in all: a loop until something has converged would never end.
_IN_ALL = 10_000

#: With the separator, for `torchvision` is not torch.
_HERE = f"{Path(__file__).parents[1]}{os.sep}"
_TORCH = f"{Path(torch.__file__).parent}{os.sep}"

Step = tuple[Any, Any, Any, Any]  # operation, arguments, those by name, result
Known = dict[int, Any]  # step → what it made


class TooOftenError(RuntimeError):
    """One line asks for values without an end."""


def _no_other(meta: Tensor) -> None:
    """There is no model."""


class Values:
    """Answers for tensors on meta, from what made them.

    Args:
        real: of a tensor on meta, the one of the model for which it stands, or None.
        given: the arguments of the forward pass, on meta.
        example: what they were made of: tensors in the same order, or a size.

    Attributes:
        steps: the operations of the pass so far.
        assumed: lines of code that asked for values that depend on what the model is given.
    """

    def __init__(
        self,
        real: Callable[[Tensor], Tensor | None] = _no_other,
        given: Any = (),
        example: Any = None,
    ) -> None:
        self.steps: list[Step] = []
        self.assumed: dict[str, None] = {}
        self._real = real
        shown = [
            [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
            for tree in (given, example)
        ]
        self._examples = dict(zip(map(id, shown[0]), shown[1], strict=False))
        self._draws = Draws()
        self._read = 0
        self._made: dict[int, list[int]] = {}  # id → the steps that made or changed the tensor
        self._of_input: dict[int, bool] = {}  # step → whether its result depends on the input
        self._asked: Counter[str] = Counter()

    def answer(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What an operation returns that asks for values.

        Raises:
            TooOftenError: the same line has asked too often.
        """
        self._read_on()
        line = line_of(sys._getframe(1))
        if self._asked[line] > _IN_ALL:
            raise TooOftenError(f"values are asked for without an end, on meta tensors, at {line}")
        if any(self._is_unknown(tensor, len(self.steps)) for tensor in _tensors(args)):
            self.assumed.setdefault(line)
        known: Known = {}
        result = self._run((func, args, kwargs, None), len(self.steps), known)
        self._asked[line] += 1 + len(known)
        return result

    def end(self) -> None:
        """The pass is over: let the model go that it was about."""
        self._real = _no_other

    def _read_on(self) -> None:
        """Note of the steps that came since which tensors they made."""
        made = self._made
        for index in range(self._read, len(self.steps)):
            result = self.steps[index][3]
            for tensor in (result,) if isinstance(result, Tensor) else _tensors((result,)):
                made.setdefault(id(tensor), []).append(index)
        self._read = len(self.steps)

    def _steps_of(self, tensor: Tensor, before: int) -> list[int]:
        """The steps before one that made or changed a tensor."""
        return [step for step in self._made.get(id(tensor), ()) if step < before]

    def _is_unknown(self, tensor: Tensor, before: int) -> bool:
        """Whether a tensor, as it was before a step, depends on what the model is given."""
        made = self._steps_of(tensor, before)
        if made or not tensor.is_meta:
            return any(map(self._depends, made))
        real = self._real(tensor)
        return real is None or real.is_meta

    def _depends(self, step: int) -> bool:
        """Whether the result of a step depends on what the model is given.

        Step by step back to what is known, and not by recursion: networks are deep.
        """
        known, waiting = self._of_input, [step]
        while waiting:
            step = waiting[-1]
            if step in known:
                waiting.pop()
                continue
            _, args, kwargs, _ = self.steps[step]
            given = _tensors(args) + (_tensors(kwargs.values()) if kwargs else [])
            before = {made for tensor in given for made in self._steps_of(tensor, step)}
            if any(known.get(made) for made in before):
                known[step] = True
            elif unread := [made for made in before if made not in known]:
                waiting += unread
            else:
                known[step] = any(self._is_unknown(tensor, step) for tensor in given)
        return known[step]

    # --- values -----------------------------------------------------------------------------

    def _value(self, tensor: Tensor, before: int, known: Known) -> Tensor:
        """The value of a tensor as it was before a step."""
        if not tensor.is_meta:
            return tensor.detach().cpu()
        made = self._steps_of(tensor, before)
        if made:
            return self._result(tensor, made[-1], known)
        real = self._examples.get(id(tensor), self._real(tensor))
        return _stand_in(tensor) if real is None or real.is_meta else real.detach().cpu()

    def _result(self, tensor: Tensor, index: int, known: Known) -> Tensor:
        step = self.steps[index]
        layer = step[0]._schema.name.partition("::")[2] in _LAYERS
        if (layer or len(known) > _STEPS) and self._is_unknown(tensor, index + 1):
            return _stand_in(tensor)
        if index not in known:
            try:
                known[index] = self._run(step, index, known)
            except (RuntimeError, NotImplementedError, IndexError, RecursionError):
                return _stand_in(tensor)  # no kernel for it, or it fails on what stands for a map
        result = known[index]
        if isinstance(result, Tensor):
            return result
        return next(mine for mine, meta in zip(result, step[3], strict=True) if meta is tensor)

    def _run(self, step: Step, index: int, known: Known) -> Any:
        func, args, kwargs, _ = step
        with torch.no_grad():
            named = {
                name: self._given(item, step, index, known) for name, item in (kwargs or {}).items()
            }
            return self._draws.run(
                func, tuple(self._given(item, step, index, known) for item in args), named
            )

    def _given(self, item: Any, step: Step, index: int, known: Known) -> Any:
        """An argument of a step, tensors with their values."""
        if isinstance(item, Tensor):
            found = self._value(item, index, known)
            return found.clone() if step[0]._schema.is_mutable else found
        if isinstance(item, list | tuple):
            return type(item)([self._given(one, step, index, known) for one in item])
        return torch.device("cpu") if isinstance(item, torch.device) else item


def _tensors(items: Iterable[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for item in items:
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, list | tuple):
            found += [inner for inner in item if isinstance(inner, Tensor)]
    return found


def _stand_in(meta: Tensor) -> Tensor:
    """Numbers between 0 and 1 for a map, zeros for what is counted or masked."""
    if not meta.is_floating_point():
        return torch.zeros(meta.shape, dtype=meta.dtype)
    count = meta.numel()
    ramp = torch.arange(count, dtype=torch.float32).add_(0.5).div_(max(count, 1))
    return ramp.to(meta.dtype).view(meta.shape)


# --- lines of code ------------------------------------------------------------------------------


def line_of(where: FrameType | TracebackType | None) -> str:
    """`file.py:12` of the innermost code that is neither torch's nor ours.

    Args:
        where: the frame that runs, or the traceback of an error.
    """
    if isinstance(where, TracebackType):
        lines = []
        step: TracebackType | None = where
        while step is not None:
            lines.append((step.tb_frame.f_code.co_filename, step.tb_lineno))
            step = step.tb_next
        lines.reverse()
    else:
        lines = []
        while where is not None:
            lines.append((where.f_code.co_filename, where.f_lineno))
            where = where.f_back
    theirs = (line for line in lines if not line[0].startswith((_HERE, _TORCH)))
    return "{}:{}".format(*next(theirs, lines[0] if lines else ("?", 0)))
