"""Writing down a forward pass while it runs: module calls and operations, as a `Trace`."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor, nn

from attnzoo.tracing.axes import derive_axes
from attnzoo.tracing.handing_on import HandingOn
from attnzoo.tracing.layers import directly, operation
from attnzoo.tracing.meta_ops import FastShapes, layout_of
from attnzoo.tracing.modules import module_infos
from attnzoo.tracing.nested import NUMBERS, Nested, nested, only_numbers, shapes_of, tensors_in
from attnzoo.tracing.parts import Call, Op, Value, regrouped
from attnzoo.tracing.positions import Readings, WatchedChildren
from attnzoo.tracing.trace import Trace
from attnzoo.tracing.values import Values

__all__ = ["Recorder"]

aten = torch.ops.aten

_NESTED = (dict, list, tuple)
_POOLS = frozenset(
    (
        "max_pool2d_with_indices",
        "max_pool2d",
        "avg_pool2d",
        "max_pool3d_with_indices",
        "avg_pool3d",
    )
)


class _OpenCall(NamedTuple):
    """What is known of a call while it runs."""

    number: int
    path: str
    given: list[Tensor]
    inputs: tuple[int, ...]
    takes_tensor: bool
    first_op: int


#: Key of the recorder's hooks on a module; torch counts those of others from 0.
_OURS = -1


class Recorder(FastShapes):
    """Writes down module calls (where torch looks for a compiled one) and operations (as a mode).

    Args:
        model: a twin, whose modules are changed so.
        paths: its modules with their paths.
        values: what it answers where the pass asks for values.
    """

    def __init__(
        self,
        model: nn.Module,
        paths: dict[nn.Module, tuple[str, ...]],
        values: Values | None = None,
    ) -> None:
        super().__init__(values)
        self._model = type(model).__name__
        self._infos = module_infos(paths)
        self._path = {module: where[0] for module, where in paths.items()}
        self._thread = threading.get_ident()
        self._names: dict[Any, tuple[str, bool]] = {}
        self._ids: dict[int, int] = {}  # id(tensor) → its current value
        self._alive: list[Tensor] = []  # keeps those ids from being used again
        self._values: list[Value] = []
        self._ops: list[Op] = []
        self._calls: list[Call | None] = []  # None until it ends
        self._stack: list[_OpenCall] = []
        self._users: dict[int, list[int]] = {}
        self._handed = HandingOn()
        self._unlearning: set[int] = set()
        self._readings = Readings()
        self._flags = OrderedDict([(_OURS, True)])
        for module, path in self._path.items():
            self._watch(module, path)

    def _watch(self, module: nn.Module, path: str) -> None:
        state = vars(module)
        if state["_modules"]:
            state["_modules"] = WatchedChildren(state["_modules"], path, self._readings)
        if not state["_forward_pre_hooks"] and not state["_forward_hooks"]:
            # What torch calls instead of the hooks' detours, which take longer than we do.
            state["_compiled_call_impl"] = partial(self._call, ref(module), "forward" in state)
            return
        # Before the hooks of others, as torch's global hooks would be; but those would see, and
        # slow down, the modules of other threads.
        for name, hook in (("_forward_pre_hooks", self._enter), ("_forward_hooks", self._leave)):
            state[name] = OrderedDict([(_OURS, hook), *state[name].items()])
        # Also for a call that raises: the model may catch that and go on.
        for name in ("_forward_hooks_with_kwargs", "_forward_hooks_always_called"):
            own = state[name]
            state[name] = OrderedDict([(_OURS, True), *own.items()]) if own else self._flags

    @property
    def saw_map(self) -> bool:
        """Whether any operation made a feature map."""
        return any(value.is_map and value.op >= 0 for value in self._values)

    def add_input(self, tensor: Tensor) -> None:
        axes = {3: "CHW", 4: "NCHW", 5: "NCDHW"}.get(tensor.ndim, "")
        self._new_value(tensor, axes, -1)

    def finish(self, result: Any, stopped: str = "", ahead: frozenset[str] = frozenset()) -> Trace:
        self._path.clear()  # modules hold us by their hooks, and are not to wait for the collector
        self.values.end()
        self._handed.read(tensors_in(result))
        while self._stack:  # calls the forward pass did not come back from
            self._close(self._stack.pop())
        return Trace(
            model=self._model,
            values=tuple(self._values),
            ops=tuple(self._ops),
            calls=tuple(call for call in self._calls if call is not None),
            modules=self._infos,
            outputs=self._known((result,)),
            returned=shapes_of(result),
            stopped=stopped,
            assumed=tuple(self.values.assumed),
            ahead=ahead,
            positions_read=frozenset(self._readings.positions),
            children_run=frozenset(self._readings.positions | self._readings.run_over),
            unread=frozenset() if stopped else self._handed.unread(),
            altering=self._handed.altering(),
            unlearning=frozenset(self._unlearning),
            _users={value: tuple(ops) for value, ops in self._users.items()},
        )

    # --- module calls -----------------------------------------------------------------------

    def _call(self, reference: ref[nn.Module], own: bool, /, *args: Any, **kwargs: Any) -> Any:
        """A call of a module, whose forward pass may be its own and not its class's."""
        module = reference()
        assert module is not None
        self._enter(module, args)
        output = None
        try:
            asked = None
            if not own and not kwargs and len(args) == 1 and id(args[0]) in self._ids:
                asked = operation(module, args[0])
            if asked is not None and directly(self):
                with torch._C._DisableTorchDispatch():
                    output = self.__torch_dispatch__(asked[0], (), asked[1])
                if asked[0] is aten.native_batch_norm.default:
                    output = output[0]
            else:
                output = module._call_impl(*args, **kwargs)
        finally:  # also for a call that raises: the model may catch that and go on
            other = self._leave(module, args, kwargs, output)
        return output if other is None else other

    def _enter(self, module: nn.Module, args: Any) -> None:
        path = self._path.get(module)
        if path is None or threading.get_ident() != self._thread:
            return
        ids = self._ids
        takes_tensor = bool(args) and isinstance(args[0], Tensor) and id(args[0]) in ids
        given = list(args) if takes_tensor and len(args) == 1 else self._followed(args)
        inputs = tuple([ids[id(tensor)] for tensor in given])
        if torch.is_inference_mode_enabled():
            self._unlearning.add(len(self._calls))
        self._stack.append(
            _OpenCall(len(self._calls), path, given, inputs, takes_tensor, len(self._ops))
        )
        self._calls.append(None)

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        if module not in self._path or threading.get_ident() != self._thread:
            return None
        call, ids = self._stack.pop(), self._ids
        one = isinstance(output, Tensor)
        value = ids.get(id(output)) if one else None
        outputs = (value,) if value is not None else () if one else self._known((output,))
        self._close(call, outputs, one, nested(output, ids) if outputs and not one else None)
        for tensor, before in zip(call.given, call.inputs, strict=True):
            if ids[id(tensor)] != before:
                self._handed.altered(tensor, call.number)
        return None if value is None else self._returned(output, value, args, kwargs, call.number)

    def _returned(
        self, output: Tensor, value: int, args: Any, kwargs: Any, call: int
    ) -> Tensor | None:
        """Another object for a tensor that the call was given and returns, to tell who reads it."""
        for item in (*args, *kwargs.values()):
            if item is output:
                alias = self._handed.alias(output)
                self._ids[id(alias)] = value
                self._handed.returns(alias, call)
                return alias
        if id(output) in self._handed.watched:
            self._handed.returns(output, call)
        return None

    def _close(
        self,
        call: _OpenCall,
        outputs: tuple[int, ...] = (),
        tensor: bool = False,
        returned: Nested | None = None,
    ) -> None:
        self._calls[call.number] = Call(
            call.number,
            call.path,
            self._infos[call.path].type,
            self._stack[-1].number if self._stack else -1,
            call.inputs,
            outputs,
            len(self._calls) - 1,
            call.first_op,
            len(self._ops),
            call.takes_tensor,
            tensor,
            returned,
        )

    # --- operations -------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = self.run(func, args, kwargs)
        read = self._followed(args)
        named = self._followed(kwargs.values()) if kwargs else []
        if read or named:
            ids = self._ids
            inputs = tuple([ids[id(tensor)] for tensor in read or named])
            if self._handed.watched:
                self._handed.read(read + named)
            self._record(func, args, inputs, result)
        return result

    def _record(self, func: Any, args: Any, inputs: tuple[int, ...], result: Any) -> None:
        known = self._names.get(func)
        if known is None:
            name = func._schema.name.partition("::")[2]
            in_place = name.endswith("_") and not name.startswith("__")
            known = self._names[func] = (name.rstrip("_") if in_place else name, in_place)
        name, in_place = known
        index = len(self._ops)
        values = self._values
        sources = [(values[v].axes, values[v].shape) for v in inputs]
        if name == "native_batch_norm":
            result = result[0]  # without the statistics of a batch
        made = [result] if isinstance(result, Tensor) else tensors_in(result)
        outputs = []
        for tensor in made:
            if not in_place and id(tensor) in self._ids:
                outputs.append(self._ids[id(tensor)])
                continue
            axes = ""
            if not outputs or tensor.dtype != torch.int64:  # where maxima were, is no map
                axes = derive_axes(
                    name,
                    args,
                    sources,
                    tensor.shape,
                    lambda: regrouped(values, self._ops, inputs[0]),
                )
            outputs.append(self._new_value(tensor, axes, index))
        for value in inputs if len(inputs) == 1 else set(inputs):
            self._users.setdefault(value, []).append(index)
        kernel: tuple[int, ...] = ()
        weight: tuple[int, ...] = ()
        groups = 1
        if name == "convolution":
            weight = tuple(args[1].shape)
            kernel, groups = weight[2:], args[8]
        elif name in _POOLS:
            size = args[1]
            kernel = tuple(size) * (2 if len(size) == 1 else 1)
        call = self._stack[-1].number if self._stack else -1
        self._ops.append(Op(index, name, call, inputs, tuple(outputs), kernel, groups, weight))

    def _new_value(self, tensor: Tensor, axes: str, op: int) -> int:
        index = len(self._values)
        for same in self._handed.same(tensor):
            self._ids[same] = index
        self._alive.append(tensor)
        layout = layout_of(tensor)
        self._values.append(Value(layout[0], axes, op, layout))
        return index

    def _known(self, items: Iterable[Any]) -> tuple[int, ...]:
        """Values of the tensors in `items`, nested ones too, that depend on the model's input."""
        ids = self._ids
        return tuple([ids[id(tensor)] for tensor in self._followed(items)])

    def _followed(self, items: Iterable[Any]) -> list[Tensor]:
        """The tensors in `items`, nested ones too, that depend on the model's input."""
        ids, found = self._ids, []
        for item in items:
            if isinstance(item, Tensor):
                if id(item) in ids:
                    found.append(item)
            elif type(item) in NUMBERS or not isinstance(item, _NESTED):
                continue
            elif not only_numbers(item):
                found += [t for t in tensors_in(item) if id(t) in ids]
        return found
