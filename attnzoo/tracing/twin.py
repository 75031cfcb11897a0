"""A twin of a model: a copy that shares nothing that changes, its tensors on meta.

Whatever is to be found out about a model is found out on its twin, so that the model itself may
serve in another thread meanwhile, and is whole at whatever moment one stops.

Modules are copied attribute by attribute and not by `deepcopy`, which would copy weights, ask the
modules' own `__deepcopy__`, and leave what closures, weak references and hooks hold in the model.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import random
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection
from types import BuiltinMethodType, CellType, FunctionType, MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn

from attnzoo.tracing import instances
from attnzoo.tracing.instances import slots, without_finalizer
from attnzoo.tracing.meta_ops import META, layout_of, tensor_of

__all__ = ["Twin"]

#: Types of which most attributes are, and which hold nothing that could change.
_PLAIN = frozenset({bool, int, float, str, type(None), type, torch.dtype, torch.device})
#: Attributes of every module: what is registered on it, hooks and flags.
_REGISTERED = frozenset(vars(nn.Module()))
_PLAIN_TENSORS = frozenset({Tensor, nn.Parameter})
_TENSORS = frozenset({"_parameters", "_buffers"})
Copier = Callable[["Twin", Any], Any]


class Twin:
    """A copy of everything that a model is made of.

    What is one object in the model is one object in the twin: modules under two names, tied
    weights, a list in two places. What can be reached from a module is copied with it: other
    attributes, containers, objects, closures, bound methods, partials, weak references and hooks,
    so that nothing in the twin leads back to the model. Classes and functions that can be imported
    are shared, and so is what is not made in Python.

    Args:
        model: read and not changed.
        closed: modules that are not looked into: their children stay away, so that to run one, or
            to ask for a child, fails.
    """

    def __init__(self, model: nn.Module, closed: Collection[nn.Module] = ()) -> None:
        self._closed = closed
        self._copies: dict[int, Any] = {}
        self._originals: list[Any] = []  # as long as they live, nothing else gets their ids
        self._stands_for: dict[int, Tensor] = {}
        self._unfilled: list[tuple[Callable[[Any, Any], None], Any, Any]] = []
        self.root: nn.Module = self.of(model)

    def of(self, original: Any) -> Any:
        """What stands in the twin for something in the model, or for what is to be put in."""
        copy = self._copy(original)
        while self._unfilled:
            fill, source, target = self._unfilled.pop()
            fill(source, target)
        return copy

    def original(self, tensor: Tensor) -> Tensor | None:
        """The model's tensor for which one on meta stands, if any."""
        return self._stands_for.get(id(tensor))

    def _copy(self, original: Any) -> Any:
        kind = type(original)
        if kind in _PLAIN:
            return original
        copy = self._copies.get(id(original))
        if copy is not None:
            return copy
        copier = _copier(kind)
        return original if copier is None else copier(self, original)

    def _keep(self, original: Any, copy: Any) -> None:
        self._copies[id(original)] = copy
        self._originals.append(original)

    # --- modules and other objects ------------------------------------------------------------

    def _object(self, original: Any) -> Any:
        kind = type(original)
        if not slots(kind) and not vars(original):
            return original  # it can't change, and may be there to be told from others
        copied = without_finalizer(kind)
        try:
            copy = object.__new__(copied)
        except TypeError:  # a class that Python itself has, such as SimpleNamespace
            copy = copied.__new__(copied)
        self._keep(original, copy)
        self._unfilled.append((self._fill_object, original, copy))
        return copy

    def _fill_object(self, original: Any, copy: Any) -> None:
        if hasattr(original, "__dict__"):
            state = vars(original).copy()
            for name, value in state.items():
                if type(value) not in _PLAIN:
                    state[name] = self._copy(value)
            vars(copy).update(state)
        for name in slots(type(original)):
            with contextlib.suppress(AttributeError):
                object.__setattr__(copy, name, self._copy(object.__getattribute__(original, name)))

    def _module(self, original: nn.Module) -> nn.Module:
        copy = object.__new__(without_finalizer(type(original)))
        self._keep(original, copy)
        self._unfilled.append((self._fill_module, original, copy))
        return copy

    def _fill_module(self, original: nn.Module, copy: nn.Module) -> None:
        state = vars(original).copy()
        for name, value in state.items():
            kind = type(value)
            if kind in _PLAIN:
                continue
            if name in _REGISTERED and not value:
                state[name] = kind()
            elif name in _TENSORS:
                held = value.copy().items()
                state[name] = {key: t if t is None else self._meta(t) for key, t in held}
            elif name == "_modules" and original in self._closed:
                state[name] = dict.fromkeys(value.copy())
            elif kind is tuple and _PLAIN.issuperset(map(type, value)):
                continue
            else:
                state[name] = self._meta(value) if isinstance(value, Tensor) else self._copy(value)
        state["training"] = False
        vars(copy).update(state)
        if slots(type(original)):
            self._fill_object(original, copy)

    def _meta(self, tensor: Tensor) -> Tensor:
        meta = self._copies.get(id(tensor))
        if meta is None:
            plain = type(tensor) in _PLAIN_TENSORS and not tensor.is_meta and tensor.is_contiguous()
            if plain or tensor.layout is not torch.strided:
                meta = torch.empty_like(tensor, device=META)
            else:
                meta = tensor_of(layout_of(tensor))
            self._keep(tensor, meta)
            self._stands_for[id(meta)] = tensor
        return meta

    def _tensor(self, tensor: Tensor) -> Tensor:
        """What is held other than by a module itself; a number stays one, for it may be read."""
        if tensor.ndim or tensor.is_meta:
            return self._meta(tensor)
        number = tensor.detach().clone()
        self._keep(tensor, number)
        return number

    # --- containers ---------------------------------------------------------------------------

    def _dict(self, original: dict[Any, Any]) -> dict[Any, Any]:
        base: Any = next(b for b in (OrderedDict, defaultdict, dict) if isinstance(original, b))
        copy = base.__new__(type(original))
        if base is defaultdict:
            copy.default_factory = self._copy(cast("Any", original).default_factory)
        self._keep(original, copy)
        self._unfilled.append((self._fill_dict, original, copy))
        return copy

    def _fill_dict(self, original: dict[Any, Any], copy: dict[Any, Any]) -> None:
        base: Any = OrderedDict if isinstance(original, OrderedDict) else dict
        for key, value in list(base.items(original)):  # at once: another thread may add to it
            base.__setitem__(copy, self._key(key), self._copy(value))
        self._fill_attributes(original, copy)

    def _key(self, key: Any) -> Any:
        """A key or a member of a set; those that compare by what they hold are no others."""
        if type(key) in _PLAIN:
            return key
        if isinstance(key, tuple):
            return self._tuple(key, self._key)
        by_identity = isinstance(key, nn.Module | Tensor | weakref.ref | MethodType | FunctionType)
        return self._copy(key) if by_identity else key

    def _list(self, original: list[Any]) -> list[Any]:
        copy = list.__new__(type(original))
        self._keep(original, copy)
        items = original.copy() if type(original) is list else ()
        if items and _PLAIN.issuperset(map(type, items)):  # most are paddings
            copy += items
            return copy
        self._unfilled.append((self._fill_list, original, copy))
        return copy

    def _fill_list(self, original: list[Any], copy: list[Any]) -> None:
        list.extend(copy, map(self._copy, list.copy(original)))
        self._fill_attributes(original, copy)

    def _deque(self, original: deque[Any]) -> deque[Any]:
        copy: deque[Any] = deque(maxlen=original.maxlen)
        self._keep(original, copy)
        self._unfilled.append((self._fill_deque, original, copy))
        return copy

    def _fill_deque(self, original: deque[Any], copy: deque[Any]) -> None:
        copy.extend(map(self._copy, original.copy()))

    def _set(self, original: set[Any]) -> set[Any]:
        copy = set.__new__(type(original))
        self._keep(original, copy)
        self._unfilled.append((self._fill_set, original, copy))
        return copy

    def _fill_set(self, original: set[Any], copy: set[Any]) -> None:
        set.update(copy, map(self._key, set.copy(original)))
        self._fill_attributes(original, copy)

    def _frozenset(self, original: frozenset[Any]) -> frozenset[Any]:
        return frozenset.__new__(type(original), map(self._key, original))

    def _tuple(
        self, original: tuple[Any, ...], each: Callable[[Any], Any] | None = None
    ) -> tuple[Any, ...]:
        items = tuple(map(each or self._copy, original))
        if all(map(operator.is_, items, original)):
            return original
        kind = type(original)
        copy = items if kind is tuple else tuple.__new__(kind, items)
        if hasattr(copy, "__dict__"):
            vars(copy).update(vars(original))
        return copy

    def _fill_attributes(self, original: Any, copy: Any) -> None:
        """Those of a class derived from a container."""
        if hasattr(original, "__dict__"):
            for name, value in vars(original).copy().items():
                vars(copy)[name] = self._copy(value)

    # --- what can be called -------------------------------------------------------------------

    def _function(self, original: FunctionType) -> FunctionType:
        closure, defaults = original.__closure__, original.__defaults__
        if not (closure or defaults or original.__kwdefaults__ or original.__dict__):
            return original
        if instances.can_be_imported(original):
            return original
        cells = tuple(map(self._cell, closure)) if closure else None
        copy = FunctionType(original.__code__, original.__globals__, original.__name__, None, cells)
        self._keep(original, copy)
        copy.__defaults__ = self._copy(defaults)
        copy.__kwdefaults__ = self._copy(original.__kwdefaults__)
        copy.__qualname__, copy.__module__ = original.__qualname__, original.__module__
        copy.__annotations__ = original.__annotations__
        self._unfilled.append((self._fill_attributes, original, copy))
        return copy

    def _cell(self, original: CellType) -> CellType:
        copy = self._copies.get(id(original))
        if copy is None:
            copy = CellType()
            self._keep(original, copy)
            self._unfilled.append((self._fill_cell, original, copy))
        return copy

    def _fill_cell(self, original: CellType, copy: CellType) -> None:
        with contextlib.suppress(ValueError):  # nothing is in it yet
            copy.cell_contents = self._copy(original.cell_contents)

    def _method(self, original: MethodType) -> MethodType:
        return MethodType(self._copy(original.__func__), self._copy(original.__self__))

    def _builtin_method(self, original: BuiltinMethodType) -> Any:
        owner = self._copy(original.__self__)
        return original if owner is original.__self__ else getattr(owner, original.__name__)

    def _partial(self, original: functools.partial[Any]) -> functools.partial[Any]:
        kind = type(original)
        args, keywords = self._copy(original.args), original.keywords
        named = {name: self._copy(value) for name, value in keywords.items()}
        copy = kind(self._copy(original.func), *args, **named)
        self._fill_attributes(original, copy)
        return copy

    def _cached(self, original: Any) -> Any:
        wrapped = self._copy(original.__wrapped__)
        if wrapped is original.__wrapped__:
            return original
        return functools.lru_cache(**original.cache_parameters())(wrapped)

    # --- the rest -----------------------------------------------------------------------------

    def _reference(self, original: weakref.ref[Any]) -> weakref.ref[Any]:
        target = original()
        copy = self._copy(target)
        return original if copy is target else type(original)(copy)

    def _proxy(self, original: Any) -> Any:
        try:
            target = original.__repr__.__self__
        except ReferenceError:
            return original
        copy = self._copy(target)
        return original if copy is target else weakref.proxy(copy)

    def _generator(self, original: torch.Generator) -> torch.Generator:
        copy = torch.Generator(original.device)
        copy.set_state(original.get_state())
        self._keep(original, copy)
        return copy

    def _random(self, original: random.Random) -> random.Random:
        copy = type(original)()
        copy.setstate(original.getstate())
        self._keep(original, copy)
        return copy


_EXACT: dict[type, Copier] = {
    FunctionType: Twin._function,
    MethodType: Twin._method,
    BuiltinMethodType: Twin._builtin_method,
    functools.partial: Twin._partial,
    type(functools.lru_cache(_PLAIN.__contains__)): Twin._cached,
    weakref.ref: Twin._reference,
    weakref.WeakMethod: Twin._reference,
    weakref.ProxyType: Twin._proxy,
    weakref.CallableProxyType: Twin._proxy,
    torch.Generator: Twin._generator,
    random.Random: Twin._random,
    deque: Twin._deque,
}
_DERIVED: tuple[tuple[type, Copier], ...] = (
    (nn.Module, Twin._module),
    (dict, Twin._dict),
    (list, Twin._list),
    (tuple, Twin._tuple),
    (set, Twin._set),
    (frozenset, Twin._frozenset),
)


@functools.cache
def _copier(kind: type) -> Copier | None:
    """How objects of a class are copied; None if they are shared."""
    if issubclass(kind, Tensor):
        return Twin._tensor
    if kind in _EXACT:
        return _EXACT[kind]
    if issubclass(kind, torch.jit.ScriptModule) or instances.is_shared(kind):
        return None
    for base, copier in _DERIVED:
        if issubclass(kind, base):
            return copier
    return Twin._object if instances.is_made_in_python(kind) else None
