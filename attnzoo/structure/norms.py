"""Maps that an instance norm has made: of each channel, mean and deviation are the same always.

What weights channels by a mean over positions sees nothing there: the mean is the norm's bias, for
every image. Before the norm it would see something, but the norm would undo what it does.
"""

from __future__ import annotations

from attnzoo.structure.operations import is_linear, passes
from attnzoo.tracing import Call, Op, Trace

__all__ = ["after_activation", "behind_instance_norm"]


def behind_instance_norm(trace: Trace, value: int) -> bool:
    """Whether a map comes straight from an instance norm, scaled perhaps, but not bent."""
    while (made_by := trace.values[value].op) >= 0:
        op = trace.ops[made_by]
        if _norms_instances(trace, op):
            return True
        if len(set(op.inputs)) != 1 or not (passes(op.name) and is_linear(trace, op)):
            return False
        value = op.inputs[0]
    return False


def _norms_instances(trace: Trace, op: Op) -> bool:
    """Whether an operation is the last of an instance norm.

    That is a batch norm of one image whose channels are those of all images, and for that the map
    is viewed so, and back, by the layer itself.
    """
    chain = [op]
    for _ in range(2):
        made_by = trace.values[chain[-1].inputs[0]].op
        if made_by < 0:
            return False
        chain.append(trace.ops[made_by])
    names = ["view" if one.name == "_unsafe_view" else one.name for one in chain]
    return names == ["view", "native_batch_norm", "view"] and len({one.call for one in chain}) == 1


def after_activation(trace: Trace, value: int) -> Call | None:
    """The module, called once, that alone reads a map and bends it: the map after it is another."""
    users = trace.users(value)
    for call in trace.taking(value):
        within = users and all(user in call.ops for user in users)
        bends = [index for index in call.ops if not is_linear(trace, trace.ops[index])]
        elementwise = all(passes(trace.ops[index].name) for index in call.ops)
        once = trace.times_called[call.path] == 1 and trace.output_map(call) is not None
        if within and bends and elementwise and once and call.parent >= 0:
            return call
    return None
