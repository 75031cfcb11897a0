"""Residual blocks, recognised by what the forward pass does and not by class names.

An addition of two feature maps of equal shape is residual, and the innermost module around it a
residual block, if

1. the sum reaches the module's output through element-wise operations, joins and slices only;
2. one operand is computed from the other, or both come from a common value and exactly one of
   the two private paths is free of non-linearities, or the shortcut is an input of the module;
3. the branch holds a non-linearity (re-parameterisable sums of convolutions do not);
4. the module is neither the model itself nor inside another residual block.

Modules of the same class without an addition (a block that changes stride or width) belong too.
"""

from __future__ import annotations

from dataclasses import dataclass

from attnzoo.structure.graph import PASSES, ancestors, computed_once, nonlinear_values
from attnzoo.trace import Call, Op, Trace

__all__ = ["Addition", "ResidualBlock", "residual_blocks"]


@dataclass(frozen=True, slots=True)
class Addition:
    """`branch + shortcut`, two values, in the operation `op`."""

    op: int
    branch: int
    shortcut: int


@dataclass(frozen=True, slots=True)
class ResidualBlock:
    """A module call that is a residual block; without additions if only its class says so."""

    call: Call
    additions: tuple[Addition, ...]


@computed_once
def residual_blocks(trace: Trace) -> tuple[ResidualBlock, ...]:
    """The residual blocks of a network, in forward order."""
    found: dict[int, list[Addition]] = {}
    for op in trace.ops:
        if op.name == "add" and len(op.inputs) == 2:
            host = _host(trace, op)
            addition = _residual(trace, op, host) if host is not None else None
            if host is not None and addition is not None:
                found.setdefault(host.index, []).append(addition)

    blocks: dict[int, ResidualBlock] = {}
    covered: set[int] = set()
    for index in sorted(found):
        if index not in covered:
            call = trace.calls[index]
            blocks[index] = ResidualBlock(call, tuple(found[index]))
            covered.update(call.inside)

    classes = {trace.info(block.call).qualname for block in blocks.values()}
    for call in trace.calls[1:]:
        if call.index in blocks or call.index in covered:
            continue
        if trace.info(call).qualname in classes and trace.output_map(call) is not None:
            blocks[call.index] = ResidualBlock(call, ())
            covered.update(call.inside)
    return tuple(blocks[index] for index in sorted(blocks))


def _host(trace: Trace, op: Op) -> Call | None:
    """The innermost module around an addition that can be a block; None for the model itself."""
    if op.call < 0:
        return None
    call = trace.calls[op.call]
    for around in (call, *trace.enclosing(call)):
        if trace.info(around).is_attention:
            return None
    while call.parent >= 0 and trace.info(call).kind == "leaf":
        call = trace.calls[call.parent]  # an `Add()` module: the block is around it
    return call if call.parent >= 0 else None


def _residual(trace: Trace, op: Op, host: Call) -> Addition | None:
    first, second = op.inputs
    left, right = trace.values[first], trace.values[second]
    if not (left.is_map and right.is_map and left.shape == right.shape):
        return None
    if not _reaches_output(trace, op.outputs[0], host):
        return None
    sides = _branch_and_shortcut(trace, first, second, host)
    return None if sides is None else Addition(op.index, *sides)


def _reaches_output(trace: Trace, value: int, host: Call) -> bool:
    waiting, seen = [value], {value}
    while waiting:
        current = waiting.pop()
        if current in host.outputs:
            return True
        for user in trace.users(current):
            op = trace.ops[user]
            if user in host.ops and op.name in PASSES:
                fresh = [v for v in op.outputs if v not in seen]
                seen.update(fresh)
                waiting.extend(fresh)
    return False


def _branch_and_shortcut(
    trace: Trace, first: int, second: int, host: Call
) -> tuple[int, int] | None:
    """Which operand is the branch and which the shortcut; None if this is no residual addition."""
    sets, bent = ancestors(trace), nonlinear_values(trace) & _made_in(trace, host)
    for branch, shortcut in ((first, second), (second, first)):
        if sets[branch] >> shortcut & 1:
            curved = bent & sets[branch] & ~sets[shortcut]
            return (branch, shortcut) if curved else None

    own = _made_in(trace, host) | _taken_in(trace, host)
    if sets[first] & sets[second] & own:
        first_curved = bool(bent & sets[first] & ~sets[second])
        second_curved = bool(bent & sets[second] & ~sets[first])
        if first_curved == second_curved:
            return None
        return (first, second) if first_curved else (second, first)

    for branch, shortcut in ((first, second), (second, first)):
        if shortcut in host.inputs and branch not in host.inputs and bent & sets[branch]:
            return branch, shortcut
    return None


def _made_in(trace: Trace, call: Call) -> int:
    bits = 0
    for index in call.ops:
        for value in trace.ops[index].outputs:
            bits |= 1 << value
    return bits


def _taken_in(trace: Trace, call: Call) -> int:
    bits = 0
    for index in call.ops:
        for value in trace.ops[index].inputs:
            bits |= 1 << value
    return bits
