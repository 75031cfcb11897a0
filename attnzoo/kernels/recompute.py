"""Results that are computed again in the backward pass, instead of what they were made from."""

from __future__ import annotations

import operator
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo.kernels.dispatch import is_recorded

__all__ = ["Again", "convolved", "gradients", "learning", "recomputed"]

Function = Callable[..., Any]


def recomputed(
    function: Function, *tensors: Tensor, module: nn.Module | None = None
) -> Sequence[Tensor]:
    """`function(*tensors)`, of which the backward pass keeps the tensors and nothing else.

    Called again, the function must give the same. Batch normalisation may be part of it: its
    running statistics move once. What a compiler or an exporter records is the function's own
    operations.

    Args:
        function: of the tensors, and of the parameters of the module; gives several tensors.
        tensors: what is kept.
        module: whose parameters the function uses; None if it uses none.
    """
    parameters = () if module is None else tuple(module.parameters())
    if is_recorded(*tensors, *parameters) or not learning(*tensors, *parameters):
        return function(*tensors)
    return _Recomputed.apply(Again(function, module), len(tensors), *tensors, *parameters)


def convolved(
    before: Callable[[Tensor], Tensor], x: Tensor, conv: nn.Conv2d, *, module: nn.Module
) -> Tensor:
    """`conv(before(x))`, of which the backward pass keeps x, and runs `before` again, but not conv.

    Args:
        before: of x, and of the parameters of the module; cheaper than the convolution.
        x: what is kept.
        conv: a plain one, which nobody watches.
        module: whose parameters `before` uses.
    """
    own = [conv.weight] if conv.bias is None else [conv.weight, conv.bias]
    parameters = (*own, *module.parameters())
    plain = type(conv) is nn.Conv2d and conv.padding_mode == "zeros"
    plain = plain and not isinstance(conv.padding, str)
    if not plain or is_recorded(x, *parameters) or not learning(x, *parameters):
        return conv(before(x))
    return _Convolved.apply(Again(before, module), conv, x, *parameters)


def learning(*tensors: Tensor | None) -> bool:
    """Whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


class Again:
    """A function for the forward pass, which can be called as it was in the backward pass.

    Args:
        function: of tensors.
        module: whose parameters it uses, or None.
    """

    def __init__(self, function: Function, module: nn.Module | None) -> None:
        self.function = function
        self.module = module

    def remember(self, x: Tensor) -> None:
        """Note how the forward pass runs, x being one of its tensors."""
        self.device = x.device.type
        # Autocast knows no meta device.
        self.known = self.device != "meta"
        self.autocast = self.known and torch.is_autocast_enabled(self.device)
        self.dtype = torch.get_autocast_dtype(self.device) if self.autocast else None

    def taken(
        self, tensors: Sequence[Tensor | None], parameters: Sequence[Tensor], *, further: bool
    ) -> tuple[list[Any], list[Any]]:
        """What the function is called with again, every tensor by itself.

        One may have been computed from another. The module's own parameters stay what they are, for
        to put others in their place takes its time; but not where somebody changes their gradient,
        which would be changed twice.
        """
        if further:
            return _views(tensors), _views(parameters)
        hooked = any(parameter._backward_hooks for parameter in parameters)
        own = self._are_own(parameters) and not hooked
        return _apart(tensors), list(parameters) if own else _apart(parameters)

    def _are_own(self, parameters: Sequence[Tensor]) -> bool:
        held = () if self.module is None else tuple(self.module.parameters())
        return len(held) == len(parameters) and all(map(operator.is_, held, parameters))

    @contextmanager
    def later(self, parameters: Sequence[Tensor]) -> Generator[Function]:
        """The function as it ran, with a graph, and without an effect on running statistics.

        Args:
            parameters: to take in the place of the module's, in their order.
        """
        same = not self.known or self.autocast == torch.is_autocast_enabled(self.device)
        autocast: AbstractContextManager[Any] = nullcontext()
        if not same:
            autocast = torch.autocast(self.device, self.dtype, enabled=self.autocast)
        function = self.function
        if self.module is not None and not self._are_own(parameters):
            call = _Call(self.function, self.module)
            held = tuple(self.module.parameters())
            taken = dict(zip(map(id, held), parameters, strict=True))
            # By every layer that holds one, and each layer once: torch puts back what it had put in
            # where a layer has two names and it is to look for the others of a tied parameter.
            given = {
                f"{path}.{name}": taken[id(parameter)]
                for path, layer in call.named_modules()
                for name, parameter in layer._parameters.items()
                if parameter is not None
            }

            def function(*tensors: Tensor) -> Any:
                return torch.func.functional_call(call, given, tensors, tie_weights=False)

        with torch.enable_grad(), autocast, _statistics_rest(self.module):
            yield function


class _Call(nn.Module):
    """A function that uses a module, as a module."""

    function: Function

    def __init__(self, function: Function, module: nn.Module) -> None:
        super().__init__()
        vars(self)["function"], self.module = function, module  # it may be the module itself

    def forward(self, *tensors: Tensor) -> Any:
        return self.function(*tensors)


@torch.enable_grad()
def _views(tensors: Sequence[Tensor | None]) -> list[Any]:
    return [None if t is None else t.view_as(t) for t in tensors]


def _apart(tensors: Sequence[Tensor | None]) -> list[Any]:
    return [None if t is None else t.detach().requires_grad_(t.requires_grad) for t in tensors]


@contextmanager
def _statistics_rest(module: nn.Module | None) -> Generator[None]:
    """Batch normalisation goes by the batch as before, and its running statistics stay."""
    moving = [
        norm
        for norm in (() if module is None else module.modules())
        if isinstance(norm, nn.modules.batchnorm._BatchNorm)
        and norm.training
        and norm.track_running_stats
    ]
    for norm in moving:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in moving:
            norm.track_running_stats = True


def gradients(
    results: Sequence[Tensor],
    inputs: Sequence[Tensor | None],
    given: Sequence[Tensor | None],
    *,
    further: bool,
) -> list[Tensor | None]:
    """Of the inputs, from those of the results; can be differentiated again if that is wanted."""
    known = [
        (y, g) for y, g in zip(results, given, strict=True) if g is not None and y.requires_grad
    ]
    asked = [t for t in inputs if t is not None and t.requires_grad]
    if not known or not asked:
        return [None] * len(inputs)
    outputs, seeds = zip(*known, strict=True)
    grads = torch.autograd.grad(outputs, asked, seeds, create_graph=further, allow_unused=True)
    found = iter(grads)
    return [next(found) if t is not None and t.requires_grad else None for t in inputs]


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(again: Again, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        again.remember(tensors[0])
        return tuple(again.function(*tensors[:count]))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.again, ctx.count, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        further, saved, count = torch.is_grad_enabled(), ctx.saved_tensors, ctx.count
        tensors, parameters = ctx.again.taken(saved[:count], saved[count:], further=further)
        with ctx.again.later(parameters) as function:
            results = function(*tensors)
        return None, None, *gradients(results, [*tensors, *parameters], given, further=further)


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(again: Again, conv: nn.Conv2d, x: Tensor, *parameters: Tensor) -> Tensor:
        again.remember(x)
        return conv(again.function(x))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.again, conv, *tensors = inputs
        ctx.settings = (conv.stride, conv.padding, conv.dilation)
        ctx.groups, ctx.count = conv.groups, 1 if conv.bias is None else 2
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # ty: ignore[incompatible-method-override]
        further, saved, count = torch.is_grad_enabled(), ctx.saved_tensors, 1 + ctx.count
        (x, *own), others = ctx.again.taken(saved[:count], saved[count:], further=further)
        with ctx.again.later(others) as before:
            made = before(x)
            if further or ctx.again.autocast:
                y = F.conv2d(made, *own, *([None] * (2 - len(own))), *ctx.settings, ctx.groups)
                return None, None, *gradients([y], [x, *own, *others], [g], further=further)
        weight, asked = own[0], [t.requires_grad for t in (made, *own)]
        found = torch.ops.aten.convolution_backward(
            g,
            made.detach(),
            weight.detach(),
            None if len(own) == 1 else [len(weight)],
            *ctx.settings,
            False,
            [0, 0],
            ctx.groups,
            [*asked, False][:3],
        )
        rest = gradients([made], [x, *others], found[:1], further=False)
        return None, None, rest[0], *found[1 : 1 + len(own)], *rest[1:]
