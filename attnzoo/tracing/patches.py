"""Maps that are cut into patches: positions in a patch × patches, as in MobileViT.

A view, a permutation and another view make them of a map, layers work on them as on maps, and the
same again puts the map together. How high they are says nothing of resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from attnzoo.tracing.parts import Op, Value

__all__ = ["maps_in_patches"]

_VIEWS = frozenset(("view", "_unsafe_view", "reshape"))


def maps_in_patches(values: Sequence[Value], ops: Sequence[Op]) -> dict[int, int]:
    """Value that is in patches, as a map or otherwise → the map that was cut."""
    found: dict[int, int] = {}
    for op in ops:
        if not op.inputs or not op.outputs:
            continue
        regroups = op.name in _VIEWS and not values[op.inputs[0]].axes
        if regroups or not found.keys().isdisjoint(op.inputs):
            whole = _whole(values, ops, op, found, regroups)
            if whole is not None:
                found |= dict.fromkeys(op.outputs, whole)
    return found


def _whole(
    values: Sequence[Value], ops: Sequence[Op], op: Op, found: dict[int, int], regroups: bool
) -> int | None:
    """The map that what an operation makes is in patches of, or None."""
    shape = values[op.outputs[0]].shape
    cut = next((found[value] for value in op.inputs if value in found), None)
    if cut is None:
        if len(shape) != 4:
            return None
        source, moved = _source(values, ops, op.inputs[0])
        whole = values[source]
        other = _same_positions(whole, shape) and (moved or shape[2:] != whole.shape[2:])
        return source if other else None
    if op.name == "convolution" and max(op.kernel) > 1:
        return None  # it looks at neighbours
    together = len(shape) == 4 and shape[2:] == values[cut].shape[2:]
    before = values[op.inputs[0]].shape
    if together and (before[2:] != shape[2:] or (regroups and len(before) != 4)):
        return None
    return cut


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
        before = ops[made_by].inputs[0]
        if math.prod(values[before].shape) != math.prod(values[value].shape):
            break  # statistics of the map, spread over it again: a normalisation by groups
        value = before
    return value, moved


def _same_positions(whole: Value, shape: tuple[int, ...]) -> bool:
    """Whether there are as many positions, and as many channels at each, as in a map."""
    known = whole.axes == "NCHW" and shape[1] == whole.channels
    return known and shape[2] * shape[3] == whole.height * whole.width
