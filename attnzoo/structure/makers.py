"""The modules at either end of a value that functions make, read or pass on."""

from __future__ import annotations

from attnzoo.structure.operations import passes
from attnzoo.tracing import Call, Trace

__all__ = ["called_once", "last_layer", "maker", "only_reader", "passed_on"]


def maker(trace: Trace, value: int, host: Call) -> Call | None:
    """The module, called by `host` and called once, that made `value`.

    Back over element-wise steps, such as a `relu` between a convolution and a pool, as long as
    nothing else reads what they are given. Of modules that hand the value on, the last one.
    """
    while True:
        made = [call for call in trace.returning(value) if call.parent == host.index]
        once = [call for call in made if trace.times_called[call.path] == 1]
        if once:
            return once[-1]
        made_by = trace.values[value].op
        if made_by not in host.ops:
            return None
        op = trace.ops[made_by]
        if not passes(op.name) or len(set(op.inputs)) != 1:
            return None
        value = op.inputs[0]
        if trace.users(value) != (made_by,):
            return None


def called_once(trace: Trace, call: Call) -> Call:
    """`call`, or where its module runs several times, one that runs once and returns its map.

    One activation is often shared by all of a network; a place is better named after the layer.
    """
    if trace.times_called[call.path] == 1 or not call.outputs:
        return call
    made = [one for one in trace.returning(call.outputs[0]) if one.parent >= 0]
    once = [one for one in made if trace.times_called[one.path] == 1]
    return once[-1] if once else call


def last_layer(trace: Trace, value: int, host: Call) -> Call | None:
    """The last module in `host`, called once, that makes `value`, or what is handed on to it."""
    while True:
        made = [call for call in trace.returning(value) if call.index in host.inside]
        once = [call for call in made if trace.times_called[call.path] == 1 and call.ops]
        if once and trace.values[value].is_map:
            return once[-1]
        made_by = trace.values[value].op
        if made_by not in host.ops:
            return None
        op = trace.ops[made_by]
        if not passes(op.name) or len(set(op.inputs)) != 1:
            return None
        value = op.inputs[0]


def only_reader(trace: Trace, value: int) -> Call | None:
    """The outermost module, called once, that alone reads `value`, and takes it as its input."""
    if value in trace.outputs:
        return None
    users = trace.users(value)
    for call in trace.taking(value):
        if call.parent >= 0 and users and all(user in call.ops for user in users):
            return call if trace.times_called[call.path] == 1 else None
    return None


def passed_on(trace: Trace, value: int) -> int:
    """`value` after the element-wise steps that alone read it, one after the other."""
    while len(users := trace.users(value)) == 1 and value not in trace.outputs:
        op = trace.ops[users[0]]
        if not passes(op.name) or len(set(op.inputs)) != 1 or len(op.outputs) != 1:
            break
        value = op.outputs[0]
    return value
