"""The forward pass once more, after surgery, to see what each attention gets and how often.

What the model did before is known from its trace. As long as attention returns maps laid out like
those that it is given, everything without attention inside does the same as then; so it is not run
again, and returns what it returned then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from attnzoo.errors import TraceError
from attnzoo.hosts import Attention, prefixes
from attnzoo.surgery.changes import Changes
from attnzoo.surgery.edits import Edit
from attnzoo.tracing import (
    FastShapes,
    Layout,
    Trace,
    Twin,
    Value,
    Values,
    follow,
    layout_of,
    on_example,
    shapes_of,
    tensor_of,
)

__all__ = ["Place", "Rehearsal", "known_calls", "rehearse"]

aten = torch.ops.aten

Shape = tuple[int, ...]

#: Module → of each of its calls, in order, the layout of what it took (None where that is not one
#: tensor), and what makes the like of what it returned.
Known = Mapping[nn.Module, Sequence[tuple[Layout | None, Callable[[], Any]]]]


@dataclass(frozen=True, eq=False)
class Place:
    """One attention, and the layout of the map at its site, at each of its calls."""

    attention: Attention
    layouts: tuple[Layout, ...]


@dataclass(frozen=True)
class Rehearsal:
    """What one forward pass on meta tensors did.

    Attributes:
        maps: per attention, the shape of what it was given at each of its calls.
        returned: shapes of the tensors that the model returned.
    """

    maps: tuple[tuple[Shape, ...], ...]
    returned: tuple[Shape, ...]


def rehearse(
    model: nn.Module,
    places: Sequence[Place],
    example: Any = None,
    known: Known | None = None,
    edits: Sequence[Edit] = (),
    stopped: str = "",
) -> Rehearsal | None:
    """Run a twin of `model` once. Of attentions on maps of one layout, one block is run.

    Args:
        model: read and not changed.
        places: the attention in it, or that is to be put into it.
        example: as for `probe`.
        known: calls that need not be run.
        edits: how each attention gets into it, if it is not in it.
        stopped: how the forward pass ended before, if it was not followed to its end.

    Returns:
        None if the calls did not come as they are known, or attention returned a map of another
        layout: then only a rehearsal without `known` can tell.

    Raises:
        TraceError: the forward pass failed.
    """

    def watch(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Rehearsal | None:
        twin = Twin(model, {*known, *_others_of_a_kind(places)} if known else ())
        played = [Place(twin.of(place.attention), place.layouts) for place in places]
        changes = Changes(twin.root)
        for edit, place in zip(edits, played, strict=bool(edits)):
            edit.apply(changes, place.attention)
        changes.commit()
        shapes = _OneDtype(Values(twin.original, (args, kwargs), example))
        answers = {twin.of(module): calls for module, calls in (known or {}).items()}
        stage = _Stage(played, answers, shapes)
        try:
            result, _ = follow(twin.root, args, kwargs, shapes, lambda: True, stopped)
        except TraceError:
            if known:
                return None
            raise
        finally:
            stage.leave()
        if known and not stage.went_as_known():
            return None
        return Rehearsal(tuple(map(tuple, stage.maps)), shapes_of(result))

    return on_example(model, example, watch)


def known_calls(trace: Trace, modules: Mapping[str, nn.Module], attended: Iterable[str]) -> Known:
    """The outermost calls of modules that hold no attention, if what they return is known.

    Args:
        trace: of the model before surgery.
        modules: path then → module.
        attended: paths of the attention that was put in since.
    """
    run = {prefix for path in attended for prefix in prefixes(path)}
    for call in trace.calls:
        if call.nested is None and not (call.returns_tensor and call.outputs):
            run.add(call.path)
        if call.path in run:
            run.update(outer.path for outer in trace.enclosing(call))
    known: dict[nn.Module, list[tuple[Layout | None, Callable[[], Any]]]] = {}
    end = 0
    for call in trace.calls:
        if call.index >= end and call.path not in run:
            end = call.last + 1
            taken = trace.values[call.inputs[0]].layout if call.takes_tensor else None
            made_as = partial(_made_as, trace.values)
            if call.nested is not None:
                make: Callable[[], Any] = partial(call.nested.remade, made_as)
            else:
                make = partial(made_as, call.outputs[0])
            known.setdefault(modules[call.path], []).append((taken, make))
    return known


def _others_of_a_kind(places: Sequence[Place]) -> list[nn.Module]:
    """All attention but the first of each kind, whose blocks will not have to be run."""
    seen = set()
    others = []
    for place in places:
        attention = place.attention
        layouts = tuple(map(_what_matters, place.layouts))
        kind = (layouts, attention.axes, attention.gamma is None)
        if kind in seen and attention.axes == "NCHW":  # others may come laid out otherwise
            others.append(attention)
        seen.add(kind)
    return others


def _what_matters(layout: Layout) -> Layout:
    """A layout without the strides along axes of size one, a batch of one say, which say nothing.

    Half of the channels of a map are as contiguous as another map, and have that stride only.
    """
    shape, strides, dtype = layout
    kept = tuple(step for size, step in zip(shape, strides, strict=False) if size != 1)
    return shape, kept, dtype


def _alike(one: Layout, other: Layout) -> bool:
    return one == other or _what_matters(one) == _what_matters(other)


def _made(layout: Layout) -> Tensor:
    """A new tensor on meta, of which no mode hears: that is most of what a rehearsal would do."""
    with torch._C._DisableTorchDispatch():
        return tensor_of(layout)


def _made_as(values: Sequence[Value], value: int) -> Tensor:
    return _made(values[value].layout)


class _OtherwiseError(Exception):
    """A call that did not come as it is known."""


#: Operations that want all their tensors of one dtype; on meta tensors they don't say so.
_OF_ONE_DTYPE = frozenset(
    {
        aten.convolution.default,
        aten.addmm.default,
        aten.mm.default,
        aten.bmm.default,
        aten.baddbmm.default,
    }
)


class _OneDtype(FastShapes):
    """Fails inside attention where the operation would fail on other tensors than those of meta."""

    inside = False

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        if self.inside and func in _OF_ONE_DTYPE:
            dtypes = {item.dtype for item in args if isinstance(item, Tensor)}
            if len(dtypes) > 1:
                found = " and ".join(sorted(map(str, dtypes)))
                raise RuntimeError(f"{func._schema.name} wants tensors of one dtype, not {found}")
        return super().run(func, args, kwargs)


class _Stage:
    """The modules of a twin: attention that is watched, others that return what is known."""

    def __init__(self, places: Sequence[Place], known: Known, shapes: _OneDtype) -> None:
        self._shapes = shapes
        self.maps: list[list[Shape]] = [[] for _ in places]
        self._done: set[Any] = set()  # kinds of attention that returned what was expected
        self._as_known = True
        self._played = [*known, *(place.attention for place in places)]
        self._calls = [iter(calls) for calls in known.values()]
        for module, calls in zip(known, self._calls, strict=True):
            vars(module)["forward"] = self._answering(calls)
        for place, maps in zip(places, self.maps, strict=True):
            vars(place.attention)["forward"] = self._watching(place, maps)

    def went_as_known(self) -> bool:
        """Whether all the known calls came, and attention kept the layout of its maps."""
        return self._as_known and all(next(calls, None) is None for calls in self._calls)

    def leave(self) -> None:
        """Let the modules go, which hold what holds them."""
        for module in self._played:
            del vars(module)["forward"]

    def _differs(self) -> NoReturn:
        """What is known says no more what comes next."""
        self._as_known = False
        raise _OtherwiseError

    def _answering(
        self, calls: Iterator[tuple[Layout | None, Callable[[], Any]]]
    ) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            call = next(calls, None)
            if call is None or (call[0] and not _alike(layout_of(args[0]), call[0])):
                self._differs()
            return call[1]()

        return forward

    def _watching(self, place: Place, maps: list[Shape]) -> Callable[..., Any]:
        attention, run = place.attention, place.attention.forward

        def forward(x: Tensor, *base: Tensor) -> Any:
            layout = place.layouts[min(len(maps), len(place.layouts) - 1)]
            maps.append(tuple(x.shape))
            given = tuple(_what_matters(layout_of(tensor)) for tensor in (x, *base))
            kind = (given, _what_matters(layout), attention.axes, attention.gamma is None)
            if kind in self._done:
                return _made(layout)
            self._shapes.inside = True
            try:
                y = run(x, *base)
            finally:
                self._shapes.inside = False
            if isinstance(y, Tensor) and y.dtype != x.dtype:
                raise TypeError(f"block {attention.name!r} makes {y.dtype} of a map of {x.dtype}")
            if isinstance(y, Tensor) and _alike(layout_of(y), layout):
                self._done.add(kind)
            elif self._calls:
                self._differs()
            return y

        return forward
