"""The trunk: the values every path from input to output passes, and the modules along it."""

from __future__ import annotations

from dataclasses import dataclass

from attnzoo.structure.graph import chain, computed_once, used_values
from attnzoo.structure.nested import level_holders
from attnzoo.structure.residual import residual_blocks
from attnzoo.tracing import Call, Trace, Value

__all__ = ["Unit", "on_trunk", "on_way_down", "units"]


@dataclass(frozen=True, slots=True)
class Unit:
    """A module call on the trunk that is not taken apart further.

    `is_block` tells a composite with parallel paths inside (residual, dense, inception) from a
    single layer.
    """

    call: Call
    output: Value
    is_block: bool


@computed_once
def _trunk(trace: Trace) -> frozenset[int]:
    maps = [index for index, value in enumerate(trace.values) if value.is_map]
    value = max(trace.outputs, default=max(maps, default=-1))
    return chain(trace, value)


def on_trunk(trace: Trace, value: int) -> bool:
    """Whether every path from the model's input to its (last) output passes `value`."""
    return value in _trunk(trace)


@computed_once
def _way_down(trace: Trace) -> frozenset[int]:
    used = used_values(trace)
    maps = [i for i, value in enumerate(trace.values) if value.is_map and value.height > 1]
    maps = [i for i in maps if used >> i & 1]
    least = min((trace.values[i].height for i in maps), default=0)
    return chain(trace, max((i for i in maps if trace.values[i].height == least), default=-1))


def on_way_down(trace: Trace, value: int) -> bool:
    """Whether every path from the model's input to its coarsest feature map passes `value`.

    The encoder of a U-Net or of a detector is no trunk, since finer maps of it go on as well.
    """
    return value in _way_down(trace)


@computed_once
def units(trace: Trace) -> tuple[Unit, ...]:
    """The blocks and layers along the trunk, in forward order.

    Modules that run as a straight line are taken apart, and those that hold several levels or turn
    maps into scores; residual blocks and other modules with parallel paths are not.
    """
    holders = level_holders(trace)
    residual = {block.call.index for block in residual_blocks(trace)}
    found: list[Unit] = []

    def take(call: Call) -> None:
        children = trace.children(call)
        straight = bool(children) and children[-1].outputs == call.outputs
        straight &= all(any(on_trunk(trace, v) for v in c.outputs) for c in children)
        apart = call.parent < 0 or call.index in holders or _ends(trace, call)
        if apart or (straight and call.index not in residual):
            for child in children:
                take(child)
            return
        output = trace.output_map(call)
        if output is not None and on_trunk(trace, call.outputs[0]):
            found.append(Unit(call, output, is_block=trace.info(call).kind != "leaf"))

    if trace.calls:
        take(trace.calls[0])
    return tuple(found)


def _ends(trace: Trace, call: Call) -> bool:
    """Whether a module makes scores of a map: a network with its classifier."""
    if not call.returns_tensor or not call.outputs or trace.input_map(call) is None:
        return False
    return len(trace.values[call.outputs[0]].shape) <= 2
