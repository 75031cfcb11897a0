"""Spatial pooling: as modules, and as plain function calls in a forward pass.

A pool has no parameters, and its result has the same channels and is smaller; adaptive and global
pools are none. Where a function pools, or one module for all levels, the place is after the module
that made the map, back over element-wise steps that nothing else reads: in
`F.max_pool2d(F.relu(conv(x)), 2)` after `conv`.
"""

from __future__ import annotations

from dataclasses import dataclass

from attnzoo.structure.graph import computed_once
from attnzoo.structure.makers import maker
from attnzoo.tracing import LEVEL_RATIO, Call, Op, Trace, Value

__all__ = ["FunctionalPool", "functional_pools", "pool_calls"]

_POOL_OPS = frozenset(
    (
        "max_pool2d_with_indices",
        "max_pool2d",
        "avg_pool2d",
        "max_pool3d_with_indices",
        "avg_pool3d",
    )
)

#: A pool whose result is 1×1 is global, unless its kernel is this small: VGG's last 2×2 pool
#: stays a pool on 32×32 images, where it happens to cover all that is left.
_LOCAL_KERNEL = 3


@dataclass(frozen=True, slots=True)
class FunctionalPool:
    """A pooling operation outside any pooling module.

    Attributes:
        host: the call in whose forward it is.
        result: the map that it makes.
        producer: the module that made the map there, if one did; others may read it, too.
        first: whether the map is what `host` is given, and all that it does with it is to pool.
    """

    host: Call
    result: int
    producer: Call | None
    first: bool


@computed_once
def pool_calls(trace: Trace) -> tuple[Call, ...]:
    """Calls of spatial pooling modules, innermost ones, in forward order.

    A module without parameters (an anti-aliased pool has a buffer) whose result has the same
    channels and is smaller.
    Adaptive pools do not count: they fix the size a classifier needs, whatever comes in. A max pool
    of stride 1 and the blur behind it are one pool, which begins at the first.
    """
    found = [call for call in trace.calls if _pools(trace, call)]
    inner = [c for c in found if not any(other.index in c.inside for other in found)]
    return tuple(_first_of_pool(trace, call) for call in inner)


def _first_of_pool(trace: Trace, call: Call) -> Call:
    """The module that pools without shrinking right before `call`, for it alone; else `call`."""
    for before in trace.returning(call.inputs[0]):
        names = [trace.ops[index].name for index in before.ops]
        alone = all(user in call.ops for user in trace.users(call.inputs[0]))
        given, made = trace.input_map(before), trace.output_map(before)
        once = trace.times_called[before.path] == 1 and given is not None and made is not None
        peaks = len(names) == 1 and names[0].startswith("max_pool")
        if once and peaks and alone and not _shrinks(given, made):
            return before
    return call


@computed_once
def functional_pools(trace: Trace) -> tuple[FunctionalPool, ...]:
    """Pools called as functions, such as `F.max_pool2d` in a forward."""
    in_modules = {op for call in pool_calls(trace) for op in call.ops}
    found = []
    for op in trace.ops:
        if op.name in _POOL_OPS and op.index not in in_modules and op.call >= 0:
            taken, made = trace.values[op.inputs[0]], trace.values[op.outputs[0]]
            host = trace.calls[op.call]
            if _shrinks(taken, made) and not _is_global([op], made) and not _adaptive(trace, host):
                value = _before_blur(trace, op.inputs[0], host)
                given = host.parent >= 0 and host.takes_tensor and host.inputs[0] == value
                first = given and len([u for u in trace.users(value) if u in host.ops]) == 1
                producer = maker(trace, value, host)
                found.append(FunctionalPool(host, op.outputs[0], producer, first))
    return tuple(found)


def _before_blur(trace: Trace, value: int, host: Call) -> int:
    """The map that a pool of stride 1 has blurred before a part is pooled (YOLOv9's ADown)."""
    before = value
    while (made_by := trace.values[before].op) in host.ops:
        op = trace.ops[made_by]
        if op.name in _POOL_OPS:
            value = op.inputs[0]
        elif not op.name.startswith(("split", "slice", "chunk", "narrow")):
            break
        before = op.inputs[0]
    return value


def _pools(trace: Trace, call: Call) -> bool:
    if call.parent < 0 or trace.info(call).has_parameters:
        return False
    taken, made = trace.input_map(call), _first_map(trace, call)
    if taken is None or made is None:
        return False
    if not _shrinks(taken, made) or _adaptive(trace, call):
        return False
    return not _is_global([trace.ops[i] for i in call.ops], made)


def _first_map(trace: Trace, call: Call) -> Value | None:
    """The map that a pool returns, which may come with indices."""
    first = trace.values[call.outputs[0]] if call.outputs else None
    return first if first is not None and first.is_map else None


def _shrinks(taken: Value, made: Value) -> bool:
    if not (taken.is_map and made.is_map):  # a pool over a sequence runs as a 2-D one
        return False
    sides = ((taken.height, made.height), (taken.width, made.width))
    smaller = any(after * LEVEL_RATIO <= before for before, after in sides)
    grows = any(after > before for before, after in sides)
    return taken.channels == made.channels and smaller and not grows


def _adaptive(trace: Trace, call: Call) -> bool:
    """Whether the call only fixes an output size: adaptive pools, resizing."""
    return any("adaptive" in trace.ops[i].name or "upsample" in trace.ops[i].name for i in call.ops)


def _is_global(ops: list[Op], made: Value) -> bool:
    kernels = [max(op.kernel) for op in ops if op.name in _POOL_OPS]
    return made.is_point and not (kernels and max(kernels) <= _LOCAL_KERNEL)
