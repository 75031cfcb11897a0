"""Writing down a forward pass while it runs: module calls and operations, as a `Trace`."""

from __future__ import annotations

import functools
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from attnzoo.axes import derive_axes
from attnzoo.meta_ops import FastShapes
from attnzoo.trace import Call, Kind, ModuleInfo, Op, Trace, Value
from attnzoo.tree import paths_by_module

__all__ = ["Recorder", "shapes_of", "tensors_in"]

_NESTED = (dict, list, tuple)

_POOLS = (
    "max_pool2d_with_indices",
    "max_pool2d",
    "avg_pool2d",
    "max_pool3d_with_indices",
    "avg_pool3d",
)


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        return [tree]
    found: list[Tensor] = []
    if isinstance(tree, _NESTED):
        for item in tree.values() if isinstance(tree, dict) else tree:
            if isinstance(item, Tensor):
                found.append(item)
            elif isinstance(item, _NESTED) and not _only_numbers(item):
                found += tensors_in(item)  # strides, paddings and dims are lists of int
    return found


def shapes_of(tree: Any) -> tuple[tuple[int, ...], ...]:
    """Shapes of the tensors in nested tuples, lists and dicts."""
    return tuple(tuple(tensor.shape) for tensor in tensors_in(tree))


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
            is_attention=getattr(cls, "is_attnzoo_attention", False),
        )
        infos[where[0]] = info
    return infos


class Recorder(FastShapes):
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
            returned=shapes_of(result),
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
        result = self.run(func, args, kwargs)
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
        for tensor in tensors_in(result):
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
        return tuple(ids[id(t)] for t in tensors_in(tree) if id(t) in ids)

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
