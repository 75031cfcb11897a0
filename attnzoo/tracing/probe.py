"""One forward pass on meta tensors: model + example → `Trace`.

No arithmetic is done and no memory taken. What runs is a twin of the model: the model itself is
read once, and may run in another thread meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from attnzoo.errors import TraceError, UnsupportedModelError
from attnzoo.hosts import Attention, check_module, paths_by_module
from attnzoo.tracing.ahead import paths_ahead
from attnzoo.tracing.example import (
    default_input_size,
    describe,
    is_volume,
    model_dtype,
    published_input_size,
    resolve_example,
)
from attnzoo.tracing.meta_ops import FastShapes
from attnzoo.tracing.nested import tensors_in
from attnzoo.tracing.on_meta import meta_forward
from attnzoo.tracing.recorder import Recorder
from attnzoo.tracing.trace import Trace
from attnzoo.tracing.twin import Twin
from attnzoo.tracing.values import Values, line_of

__all__ = ["checked_modules", "follow", "how_it_ended", "on_example", "probe"]

Seen = TypeVar("Seen")


def probe(model: nn.Module, example: Any = None) -> Trace:
    """Run `model` once on meta tensors and return what it did.

    Where the pass asks for a value it gets one (`attnzoo.tracing.values`) and goes on. Where shapes
    depend on the values (non-maximum suppression, `nonzero`) it cannot be followed past that
    point; the trace then ends there and says so in `stopped`.

    Args:
        model: any model, on any device, in any mode.
        example: an input size, a tensor, or a tuple or dict of arguments; None for the
            model's own default. See `attnzoo.tracing.example.resolve_example`.

    Raises:
        UnsupportedModelError: the model is compiled, scripted, quantised, lazy, or under DDP or
            FSDP.
        TraceError: the forward pass failed on this example.
    """
    paths = checked_modules(model)

    def record(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
        twin = Twin(model)
        modules = {twin.of(module): where for module, where in paths.items()}
        recorder = Recorder(twin.root, modules, Values(twin.original, (args, kwargs), example))
        for tensor in tensors_in((args, kwargs)):
            recorder.add_input(tensor)
        result, error = follow(twin.root, args, kwargs, recorder, lambda: recorder.saw_map)
        if error is None:
            return recorder.finish(result)
        return recorder.finish(result, how_it_ended(error), paths_ahead(error, modules))

    return on_example(model, example, record)


def on_example(
    model: nn.Module, example: Any, run: Callable[[tuple[Any, ...], dict[str, Any]], Seen]
) -> Seen:
    """`run` on the example; where that fails, on another reading of it.

    That is, of the model's own default, the size it publishes.
    """
    try:
        return run(*resolve_example(model, example))
    except TraceError:
        # Where pixels are folded into channels first, the first convolution's are not the input's.
        if example is None and published_input_size(model) != default_input_size(model):
            with contextlib.suppress(TraceError):
                return run(*resolve_example(model, published_input_size(model)))
        if is_volume(model, example):  # images, after all, whose channels it takes for frames
            with contextlib.suppress(TraceError):
                return run((torch.empty(example, dtype=model_dtype(model), device="meta"),), {})
        raise


def follow(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    shapes: FastShapes,
    may_stop: Callable[[], bool],
    stopped: str | None = None,
    watching: Sequence[contextlib.AbstractContextManager[Any]] = (),
    *,
    grad: bool = False,
) -> tuple[Any, Exception | None]:
    """What a twin returns and None, or None and what kept it from being followed to its end.

    Args:
        model: a twin.
        args: its arguments, tensors on meta.
        kwargs: those by name.
        shapes: what it runs under.
        may_stop: whether to put up with an end that values bring about.
        stopped: how an earlier pass ended. Where values were assumed, a failure is such an end,
            too: in the first pass any, later that one again.
        watching: what it runs under besides.
        grad: see `meta_forward`.
    """
    try:
        return meta_forward(model, args, kwargs, [shapes, *watching], grad=grad), None
    except Exception as error:
        by_assuming = bool(shapes.values.assumed) and stopped in (None, how_it_ended(error))
        if (_data_dependent(error) or by_assuming) and may_stop():
            return None, error
        raise TraceError(
            f"the forward pass of {type(model).__name__} failed on {describe(args, kwargs)}: "
            f"{type(error).__name__}: {error}",
            "Pass example=…: an input size such as (3, 64, 64), a tensor, or a tuple or dict "
            "of the arguments that the model takes.",
        ) from error


def checked_modules(model: nn.Module) -> dict[nn.Module, tuple[str, ...]]:
    """The modules of a model with their paths.

    Raises:
        UnsupportedModelError: surgery would break it in silence.
    """
    check_module(model)
    paths = paths_by_module(model)
    for module, (path, *_) in paths.items():
        if (
            _may_be_unsupported(type(module))
            or module._compiled_call_impl is not None
            or "_orig_mod" in module._modules
        ):
            where = f"{path!r} ({type(module).__name__})" if path else type(module).__name__
            why = _unsupported(module)
            if why:
                raise UnsupportedModelError(f"{where} {why}")
    return paths


@functools.cache
def _may_be_unsupported(cls: type[nn.Module]) -> bool:
    """Whether modules of this class have to be looked at: few have, and this is asked of all."""
    kinds = (Attention, torch.jit.ScriptModule, LazyModuleMixin)
    return issubclass(cls, kinds) or _is_parallel(cls) or _is_quantised(cls)


def _unsupported(module: nn.Module) -> str:
    """Why surgery would break this module, and what to do; "" if it would not."""
    if isinstance(module, Attention) and (module.pool or module._compiled_call_impl):
        return "is fused. Call attnzoo.unfuse(model) first."
    if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
        return (
            "is compiled: the compiled code would not see the attention. "
            "Wrap the plain model first, then compile it."
        )
    if _is_parallel(type(module)):
        return (
            "is set up for parallel training: gradients of attention added now would "
            "not be synchronised. Wrap the plain model first, then parallelise it."
        )
    if isinstance(module, torch.jit.ScriptModule):
        return "is TorchScript and cannot be changed. Wrap the Python model first."
    if _is_quantised(type(module)):
        return (
            "is quantised: its tensors are integers, which attention cannot take. "
            "Wrap the float model first, then quantise it."
        )
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        return "has uninitialised lazy parameters. Run one forward pass first."
    return ""


@functools.cache
def _is_parallel(cls: type[nn.Module]) -> bool:
    packages = ("torch.distributed.", "torch.nn.parallel.")
    return any(base.__module__.startswith(packages) for base in cls.__mro__)


@functools.cache
def _is_quantised(cls: type[nn.Module]) -> bool:
    packages = ("torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.")
    still_float = ("FloatFunctional", "FXFloatFunctional")  # of models that can be quantised
    return any(
        base.__module__.startswith(packages) and base.__name__ not in still_float
        for base in cls.__mro__
    )


def how_it_ended(error: Exception) -> str:
    """What kept a forward pass from being followed, and the line of code where."""
    first = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
    return f"{first}, at {line_of(error.__traceback__)}"


def _data_dependent(error: Exception) -> str:
    """Why a forward pass cannot be followed on meta tensors, or "" for an ordinary failure."""
    first = str(error).partition("\n")[0]
    refused = isinstance(error, NotImplementedError | RuntimeError | TypeError)
    if refused and "meta" in first.lower():
        return first
    return ""
