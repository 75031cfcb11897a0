"""Maps that are cut into patches: positions in a patch × patches, as in MobileViT.

A view, a permutation and another view make them of a map, layers work on them as on maps, and the
same again puts the map together. How high they are says nothing of resolution.
"""

from __future__ import annotations

from collections.abc import Sequence

from attnzoo.tracing.parts import Op, Value

__all__ = ["maps_in_patches"]

_VIEWS = frozenset(("view", "_unsafe_view", "reshape"))


def maps_in_patches(values: Sequence[Value], ops: Sequence[Op]) -> dict[int, int]:
    """Value that is in patches → the map that was cut."""
    found: dict[int, int] = {}
    for op in ops:
        if not op.inputs or not op.outputs:
            continue
        shape = values[op.outputs[0]].shape
        if op.name in _VIEWS and len(shape) == 4 and not values[op.inputs[0]].axes:
            source, moved = _source(values, ops, op.inputs[0])
            whole = found.get(source, source)
            if _same_positions(values[whole], shape):
                turned = shape[2:] != values[whole].shape[2:]
                if turned or (moved and source not in found):
                    found[op.outputs[0]] = whole
        elif found and len(shape) == 4:
            cut = next((found[value] for value in op.inputs if value in found), None)
            if cut is not None:
                found |= dict.fromkeys(op.outputs, cut)
    return found


def _source(values: Sequence[Value], ops: Sequence[Op], value: int) -> tuple[int, bool]:
    """The map that a value without axes is a view of, and whether positions were moved on the way.

    A channel shuffle leaves them where they are: the last axis remains the last.
    """
    moved = False
    while not values[value].axes:
        made_by, strides = values[value].op, values[value].layout[1]
        moved |= len(strides) > 4 and strides[-1] != 1
        if made_by < 0 or len(ops[made_by].inputs) != 1:
            break
        value = ops[made_by].inputs[0]
    return value, moved


def _same_positions(whole: Value, shape: tuple[int, ...]) -> bool:
    """Whether there are as many positions, and as many channels at each, as in a map."""
    known = whole.axes == "NCHW" and shape[1] == whole.channels
    return known and shape[2] * shape[3] == whole.height * whole.width
