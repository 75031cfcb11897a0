"""One forward pass on meta tensors: model + example → `Trace`.

No arithmetic is done and no memory taken; parameters, buffers, BatchNorm statistics, the random
state and every train/eval flag are as before when `probe` returns or raises.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from attnzoo.axes import derive_axes
from attnzoo.errors import TraceError, UnsupportedModelError
from attnzoo.example import (
    default_input_size,
    describe,
    published_input_size,
    resolve_example,
)
from attnzoo.meta_ops import SHAPE_RULES
from attnzoo.trace import Call, Kind, ModuleInfo, Op, Trace, Value
from attnzoo.tree import paths_by_module

__all__ = ["meta_forward", "probe", "refuse_unsupported"]

_NESTED = (dict, list, tuple)

#: Attributes of every module that no forward pass changes: hooks and flags.
_BOOKKEEPING = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}

_POOLS = (
    "max_pool2d_with_indices",
    "max_pool2d",
    "avg_pool2d",
    "max_pool3d_with_indices",
    "avg_pool3d",
)


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
    try:
        return _follow(model, *resolve_example(model, example))
    except TraceError:
        # Where pixels are folded into channels first, the first convolution's are not the input's.
        if example is None and published_input_size(model) != default_input_size(model):
            with contextlib.suppress(TraceError):
                return _follow(model, *resolve_example(model, published_input_size(model)))
        raise


def _follow(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    recorder = _Recorder(model)
    for tensor in _tensors((args, kwargs)):
        recorder.add_input(tensor)
    stopped, result = "", None
    try:
        with recorder.listening(), recorder:
            result = meta_forward(model, args, kwargs)
    except Exception as error:
        stopped = _data_dependent(error)
        if not stopped or not recorder.saw_map:
            raise TraceError(
                f"the forward pass of {type(model).__name__} failed on {describe(args, kwargs)}: "
                f"{type(error).__name__}: {error}\n"
                f"Pass example=…: an input size such as (3, 64, 64), a tensor, or a tuple or dict "
                f"of the arguments that the model takes."
            ) from error
    return recorder.finish(result, stopped)


def meta_forward(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The output of `model` in eval mode, its tensors replaced by meta tensors for this call."""
    with _on_meta(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
        return model(*args, **kwargs)


@contextmanager
def _on_meta(model: nn.Module) -> Generator[None]:
    """Meta tensors for all tensors of `model`, and eval mode; on leaving, every module as it was.

    Not `torch.func.functional_call`: it leaves meta tensors in a module that is registered under
    two names, and in whatever a forward pass keeps on its modules (anchors, caches, counters).
    """
    kept = [_Attributes(module) for module in model.modules()]
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

    def __init__(self, module: nn.Module) -> None:
        self._now = vars(module)
        self._before = dict(self._now)
        self._own = [(n, value) for n, value in self._before.items() if n not in _BOOKKEEPING]
        self._contents = [
            (value, value.copy()) for _, value in self._own if isinstance(value, (dict, list, set))
        ]

    def replace(self, meta: Callable[[Any], Any]) -> None:
        now = self._now
        now["training"] = False
        for tensors in (now["_parameters"], now["_buffers"]):
            for name, tensor in tensors.items():
                tensors[name] = meta(tensor)
        for name, value in self._own:  # tensors that are not registered
            if isinstance(value, Tensor):
                now[name] = meta(value)
            elif type(value) is list and any(isinstance(item, Tensor) for item in value):
                now[name] = [meta(item) for item in value]

    def restore(self) -> None:
        now, before = self._now, self._before
        if len(now) != len(before) or any(now.get(n, now) is not v for n, v in before.items()):
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
    for path, module in model.named_modules():
        where = f"{path!r} ({type(module).__name__})" if path else type(module).__name__
        if hasattr(module, "_orig_mod") or module._compiled_call_impl is not None:
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
        uninitialised = getattr(module, "has_uninitialized_params", None)
        if uninitialised is not None and uninitialised():
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


def _tensors(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        return [tree]
    found: list[Tensor] = []
    if isinstance(tree, _NESTED):
        for item in tree.values() if isinstance(tree, dict) else tree:
            if isinstance(item, Tensor):
                found.append(item)
            elif isinstance(item, _NESTED) and not _only_numbers(item):
                found += _tensors(item)  # strides, paddings and dims are lists of int
    return found


def _only_numbers(items: Any) -> bool:
    """Whether this is a stride, a padding or the like, as most lists among arguments are."""
    if not items or isinstance(items, dict):
        return not items
    return type(items[0]) is type(items[-1]) is int


def _kind(module: nn.Module) -> Kind:
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        return "container"
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        return "sequential"
    has_children = any(child is not None for child in module._modules.values())
    return "composite" if has_children and not _is_torch_layer(type(module)) else "leaf"


@functools.cache
def _is_torch_layer(cls: type[nn.Module]) -> bool:
    """Whether `cls` is, or derives from, one of torch's own layers."""
    containers = (nn.Module, nn.Sequential)
    layers = [base for base in cls.__mro__ if base.__module__.startswith("torch.nn.modules")]
    return any(base not in containers for base in layers)


def _module_infos(paths: dict[nn.Module, tuple[str, ...]]) -> dict[str, ModuleInfo]:
    infos: dict[str, ModuleInfo] = {}
    learned: dict[nn.Module, bool] = {}
    stateful: dict[nn.Module, bool] = {}
    for module in reversed(paths):  # children come after their parents, so visit them first
        below = [child for child in module._modules.values() if child is not None]
        learned[module] = bool(module._parameters) or any(learned.get(m, False) for m in below)
        stateful[module] = (
            learned[module] or bool(module._buffers) or any(stateful.get(m, False) for m in below)
        )
    for module, where in paths.items():
        cls = type(module)
        info = ModuleInfo(
            paths=where,
            type=cls.__name__,
            qualname=f"{cls.__module__}.{cls.__qualname__}",
            kind=_kind(module),
            has_state=stateful[module],
            has_parameters=learned[module],
            is_attention=getattr(module, "is_attnzoo_attention", False),
        )
        infos[where[0]] = info
    return infos


class _Recorder(TorchDispatchMode):
    """Writes down module calls (by global hooks) and operations (as a dispatch mode)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = type(model).__name__
        paths = paths_by_module(model)
        self._infos = _module_infos(paths)
        self._path = {module: where[0] for module, where in paths.items()}
        self._thread = threading.get_ident()
        self._names: dict[Any, tuple[str, bool]] = {}
        self._ids: dict[int, int] = {}  # id(tensor) → its current value
        self._alive: list[Tensor] = []  # keeps those ids from being used again
        self._values: list[Value] = []
        self._ops: list[Op] = []
        self._calls: list[dict[str, Any]] = []
        self._stack: list[int] = []
        self._users: dict[int, list[int]] = {}

    @property
    def saw_map(self) -> bool:
        """Whether any operation made a feature map."""
        return any(value.is_map and value.op >= 0 for value in self._values)

    def add_input(self, tensor: Tensor) -> None:
        axes = {3: "CHW", 4: "NCHW", 5: "NCDHW"}.get(tensor.ndim, "")
        self._new_value(tensor, axes, -1)

    @contextmanager
    def listening(self) -> Generator[None]:
        before = register_module_forward_pre_hook(self._enter)
        # also for a call that raises: the model may catch that and go on
        after = register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def finish(self, result: Any, stopped: str) -> Trace:
        for index in self._stack:  # calls the forward pass did not come back from
            self._close(index, ())
        return Trace(
            model=self._model,
            values=tuple(self._values),
            ops=tuple(self._ops),
            calls=tuple(Call(**call) for call in self._calls),
            modules=self._infos,
            outputs=self._known(result),
            stopped=stopped,
            _users={value: tuple(ops) for value, ops in self._users.items()},
        )

    # --- module calls -----------------------------------------------------------------------

    def _enter(self, module: nn.Module, args: Any) -> None:
        path = self._path.get(module)
        if path is None or threading.get_ident() != self._thread:
            return
        index = len(self._calls)
        self._calls.append(
            {
                "index": index,
                "path": path,
                "type": self._infos[path].type,
                "parent": self._stack[-1] if self._stack else -1,
                "inputs": self._known(args),
                "outputs": (),
                "last": index,
                "first_op": len(self._ops),
                "end_op": len(self._ops),
                "takes_tensor": bool(args)
                and isinstance(args[0], Tensor)
                and bool(self._known(args[0])),
                "returns_tensor": False,
            }
        )
        self._stack.append(index)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        path = self._path.get(module)
        if path is None or threading.get_ident() != self._thread:
            return
        index = self._stack.pop()
        self._close(index, self._known(output))
        self._calls[index]["returns_tensor"] = isinstance(output, Tensor)

    def _close(self, index: int, outputs: tuple[int, ...]) -> None:
        self._calls[index].update(outputs=outputs, last=len(self._calls) - 1, end_op=len(self._ops))

    # --- operations -------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = None if kwargs else SHAPE_RULES.get(func)
        result = rule(*args) if rule is not None and args[0] is not None else None
        if result is None:
            result = func(*args, **(kwargs or {}))
        inputs = self._known(args) or (self._known(kwargs) if kwargs else ())
        if inputs:
            self._record(func, args, inputs, result)
        return result

    def _record(self, func: Any, args: Any, inputs: tuple[int, ...], result: Any) -> None:
        if func not in self._names:
            name = func._schema.name.partition("::")[2]
            in_place = name.endswith("_") and not name.startswith("__")
            self._names[func] = (name.rstrip("_") if in_place else name, in_place)
        name, in_place = self._names[func]
        index = len(self._ops)
        sources = [(self._values[v].axes, self._values[v].shape) for v in inputs]
        outputs = []
        for tensor in _tensors(result):
            if not in_place and id(tensor) in self._ids:
                outputs.append(self._ids[id(tensor)])
                continue
            axes = derive_axes(
                name, args, sources, tensor.shape, lambda: self._regrouped(inputs[0])
            )
            outputs.append(self._new_value(tensor, axes, index))
        for value in dict.fromkeys(inputs):
            self._users.setdefault(value, []).append(index)
        details: dict[str, Any] = {}
        if name == "convolution":
            weight = tuple(args[1].shape)
            details = {"kernel": weight[2:], "groups": args[8], "weight": weight}
        elif name in _POOLS:
            size = args[1]
            details = {"kernel": tuple(size) * (2 if len(size) == 1 else 1)}
        call = self._stack[-1] if self._stack else -1
        self._ops.append(Op(index, name, call, inputs, tuple(outputs), **details))

    def _new_value(self, tensor: Tensor, axes: str, op: int) -> int:
        index = len(self._values)
        self._ids[id(tensor)] = index
        self._alive.append(tensor)
        self._values.append(Value(tuple(tensor.shape), axes, op))
        return index

    def _known(self, tree: Any) -> tuple[int, ...]:
        """Values of the tensors in `tree` that depend on the model's input."""
        ids = self._ids
        return tuple(ids[id(t)] for t in _tensors(tree) if id(t) in ids)

    def _regrouped(self, value: int) -> tuple[str, tuple[int, ...]] | None:
        """The map that was flattened or regrouped on the way to `value`."""
        for _ in range(6):  # view → addmm → activation → addmm …: an MLP on flat positions
            made_by = self._values[value].op
            if made_by < 0:
                return None
            value = self._ops[made_by].inputs[0]
            if self._values[value].axes:
                return self._values[value].axes, self._values[value].shape
        return None
