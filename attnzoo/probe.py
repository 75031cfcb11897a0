"""One forward pass on meta tensors: model + example → `Trace`.

No arithmetic is done and no memory taken; parameters, buffers, BatchNorm statistics, the random
state and every train/eval flag are as before when `probe` returns or raises.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import is_
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from attnzoo.attention import Attention
from attnzoo.errors import TraceError, UnsupportedModelError
from attnzoo.example import (
    default_input_size,
    describe,
    published_input_size,
    resolve_example,
)
from attnzoo.meta_ops import FastShapes
from attnzoo.recorder import Recorder, shapes_of, tensors_in
from attnzoo.trace import Trace
from attnzoo.tree import walk

__all__ = ["Rehearsal", "meta_forward", "probe", "refuse_unsupported", "rehearse"]

Seen = TypeVar("Seen")

#: Attributes of every module that no forward pass changes: hooks and flags.
_BOOKKEEPING = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}
#: Types of which most attributes are, and which hold nothing that could change.
_PLAIN = frozenset({bool, int, float, str, type(None)})


def probe(model: nn.Module, example: Any = None) -> Trace:
    """Run `model` once on meta tensors and return what it did.

    A forward pass whose course depends on the values (non-maximum suppression, `nonzero`)
    cannot be followed past that point; the trace then ends there and says so in `stopped`.

    Args:
        model: any model, on any device, in any mode.
        example: an input size, a tensor, or a tuple or dict of arguments; None for the
            model's own default. See `attnzoo.example.resolve_example`.

    Raises:
        UnsupportedModelError: the model is compiled, scripted, quantised, lazy, or under DDP or
            FSDP.
        TraceError: the forward pass failed on this example.
    """
    refuse_unsupported(model)

    def follow(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
        recorder = Recorder(model)
        for tensor in tensors_in((args, kwargs)):
            recorder.add_input(tensor)
        with recorder.listening():
            result, stopped = _forward(model, args, kwargs, recorder, lambda: recorder.saw_map)
        return recorder.finish(result, stopped)

    return _on_example(model, example, follow)


@dataclass(frozen=True)
class Rehearsal:
    """What one forward pass on meta tensors did with some modules.

    Attributes:
        maps: per module, the shape of what it was given at each of its calls.
        returned: shapes of the tensors that the model returned.
    """

    maps: tuple[tuple[tuple[int, ...], ...], ...]
    returned: tuple[tuple[int, ...], ...]


def rehearse(model: nn.Module, modules: Sequence[nn.Module], example: Any = None) -> Rehearsal:
    """Run `model` once on meta tensors and look at `modules` alone: half the time of `probe`.

    Raises:
        TraceError: the forward pass failed.
    """

    def watch(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Rehearsal:
        maps: list[list[tuple[int, ...]]] = [[] for _ in modules]
        with contextlib.ExitStack() as hooks:
            for module, given in zip(modules, maps, strict=True):
                hook = module.register_forward_pre_hook(
                    lambda _, args, given=given: given.append(tuple(args[0].shape))
                )
                hooks.callback(hook.remove)
            result, _ = _forward(model, args, kwargs, FastShapes(), lambda: True)
        return Rehearsal(tuple(map(tuple, maps)), shapes_of(result))

    return _on_example(model, example, watch)


def _on_example(
    model: nn.Module, example: Any, run: Callable[[tuple[Any, ...], dict[str, Any]], Seen]
) -> Seen:
    """`run` on the example; where the model's own default fails, on the size it publishes."""
    try:
        return run(*resolve_example(model, example))
    except TraceError:
        # Where pixels are folded into channels first, the first convolution's are not the input's.
        if example is None and published_input_size(model) != default_input_size(model):
            with contextlib.suppress(TraceError):
                return run(*resolve_example(model, published_input_size(model)))
        raise


def _forward(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    shapes: FastShapes,
    may_stop: Callable[[], bool],
) -> tuple[Any, str]:
    """What the model returns and "", or None and why it cannot be followed to its end."""
    try:
        return meta_forward(model, args, kwargs, [shapes]), ""
    except Exception as error:
        stopped = _data_dependent(error)
        if stopped and may_stop():
            return None, stopped
        raise TraceError(
            f"the forward pass of {type(model).__name__} failed on {describe(args, kwargs)}: "
            f"{type(error).__name__}: {error}\n"
            f"Pass example=…: an input size such as (3, 64, 64), a tensor, or a tuple or dict "
            f"of the arguments that the model takes."
        ) from error


def meta_forward(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    modes: Sequence[contextlib.AbstractContextManager[Any]] = (),
    *,
    grad: bool = False,
) -> Any:
    """The output of `model` in eval mode, its tensors replaced by meta tensors for this call.

    Args:
        model: any model.
        args: its arguments, tensors on meta.
        kwargs: those by name.
        modes: what the forward pass runs under, and nothing else of what happens here; the last
            one sees an operation first.
        grad: compute as for a backward pass, which some blocks do with more memory.
    """
    with (
        _on_meta(model),
        torch.set_grad_enabled(grad),
        torch.random.fork_rng(devices=[]),
        contextlib.ExitStack() as stack,
    ):
        for mode in modes:
            stack.enter_context(mode)
        return model(*args, **kwargs)


@contextmanager
def _on_meta(model: nn.Module) -> Generator[None]:
    """Meta tensors for all tensors of `model`, and eval mode; on leaving, every module as it was.

    Not `torch.func.functional_call`: it leaves meta tensors in a module that is registered under
    two names, and in whatever a forward pass keeps on its modules (anchors, caches, counters).
    """
    kept = [_Attributes(module) for module in dict.fromkeys(module for _, module in walk(model))]
    metas: dict[int, Tensor] = {}

    def meta(item: Any) -> Any:
        if not isinstance(item, Tensor):
            return item
        if id(item) not in metas:  # tied tensors stay tied
            metas[id(item)] = torch.empty_strided(
                item.shape, item.stride(), dtype=item.dtype, device="meta"
            )
        return metas[id(item)]

    try:
        for attributes in kept:
            attributes.replace(meta)
        yield
    finally:
        for attributes in kept:
            attributes.restore()


class _Attributes:
    """The attributes of a module, with what its dicts and lists hold, to put back later."""

    __slots__ = ("_before", "_contents", "_now", "_own")

    def __init__(self, module: nn.Module) -> None:
        self._now = vars(module)
        self._before = self._now.copy()
        self._own: list[str] = []  # that may have to go to meta, besides what is registered
        self._contents: list[tuple[Any, Any]] = []
        for name, value in self._before.items():
            if name in _BOOKKEEPING or type(value) in _PLAIN:
                continue
            if isinstance(value, (dict, list, set)):
                self._contents.append((value, value.copy()))
            if isinstance(value, (Tensor, list)):
                self._own.append(name)

    def replace(self, meta: Callable[[Any], Any]) -> None:
        now = self._now
        now["training"] = False
        for tensors in (now["_parameters"], now["_buffers"]):
            for name, tensor in tensors.items():
                tensors[name] = meta(tensor)
        for name in self._own:
            value = now[name]
            if isinstance(value, Tensor):
                now[name] = meta(value)
            elif type(value) is list and any(isinstance(item, Tensor) for item in value):
                now[name] = [meta(item) for item in value]

    def restore(self) -> None:
        now, before = self._now, self._before
        now["training"] = before["training"]  # in most modules all that is to be put back
        if now.keys() != before.keys() or not all(map(is_, now.values(), before.values())):
            now.clear()
            now.update(before)
        for value, contents in self._contents:
            if not (value or contents):
                continue
            value.clear()
            value.extend(contents) if isinstance(value, list) else value.update(contents)


def refuse_unsupported(model: nn.Module) -> None:
    """Raise `UnsupportedModelError` for a model that surgery would break in silence."""
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(f"expected an nn.Module, got {type(model).__name__}.")
    for path, module in walk(model):
        where = f"{path!r} ({type(module).__name__})" if path else type(module).__name__
        if isinstance(module, Attention) and (module.pool or module._compiled_call_impl):
            raise UnsupportedModelError(f"{where} is fused. Call attnzoo.unfuse(model) first.")
        if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
            raise UnsupportedModelError(
                f"{where} is compiled: the compiled code would not see the attention. "
                f"Wrap the plain model first, then compile it."
            )
        if _is_parallel(type(module)):
            raise UnsupportedModelError(
                f"{where} is set up for parallel training: gradients of attention added now would "
                f"not be synchronised. Wrap the plain model first, then parallelise it."
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise UnsupportedModelError(
                f"{where} is TorchScript and cannot be changed. Wrap the Python model first."
            )
        if _is_quantised(type(module)):
            raise UnsupportedModelError(
                f"{where} is quantised: its tensors are integers, which attention cannot take. "
                f"Wrap the float model first, then quantise it."
            )
        # Asked of the class: a module that lacks a name takes long to say so.
        uninitialised = getattr(type(module), "has_uninitialized_params", None)
        if uninitialised is not None and uninitialised(module):
            raise UnsupportedModelError(
                f"{where} has uninitialised lazy parameters. Run one forward pass first."
            )


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


def _data_dependent(error: Exception) -> str:
    """Why a forward pass cannot be followed on meta tensors, or "" for an ordinary failure."""
    first = str(error).partition("\n")[0]
    refused = isinstance(error, NotImplementedError | RuntimeError | TypeError)
    if refused and "meta" in first.lower():
        return first
    return ""
