"""The first round of a forward pass that runs the same modules several times.

Siamese networks, networks of several frames and loops over time do so. Up to where a module with
parameters is called for the second time, such a pass looks as that of a network that runs once, so
its places can be found as there.
"""

from __future__ import annotations

from dataclasses import replace

from attnzoo.tracing.trace import Trace

__all__ = ["first_round"]


def first_round(trace: Trace) -> Trace | None:
    """The pass up to the second call of a module with parameters; None if there is none.

    Indices are those of the whole pass. What is read no more is what this one returns.
    """
    seen: set[str] = set()
    for call in trace.calls:
        if call.path in seen and trace.info(call).has_parameters:
            break
        seen.add(call.path)
    else:
        return None
    end, cut = call.index, call.first_op
    calls = [
        one
        if one.last < end and one.end_op <= cut
        else one._replace(last=end - 1, end_op=cut, outputs=(), returns_tensor=False, nested=None)
        for one in trace.calls[:end]
    ]
    made = max((value for op in trace.ops[:cut] for value in op.outputs), default=-1)
    values = trace.values[: max(made, *(i for i, v in enumerate(trace.values) if v.op < 0)) + 1]
    users = {value: tuple(op for op in ops if op < cut) for value, ops in trace._users.items()}
    users = {value: ops for value, ops in users.items() if ops}
    made_here = (i for i, value in enumerate(values) if 0 <= value.op < cut and i not in users)
    unread = [i for i in made_here if values[i].layout[2].is_floating_point]  # not a pool's indices
    return replace(
        trace,
        values=values,
        ops=trace.ops[:cut],
        calls=tuple(calls),
        outputs=tuple(unread),
        returned=(),
        ahead=frozenset(),
        unread=frozenset(index for index in trace.unread if index < end),
        altering=frozenset(index for index in trace.altering if index < end),
        _users=users,
    )
