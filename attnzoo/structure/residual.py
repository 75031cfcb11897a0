"""Residual blocks, recognised by what the forward pass does and not by class names.

An addition of two feature maps of equal shape is residual, and the innermost module around it a
residual block, if

1. the sum reaches the module's output through element-wise operations, joins and slices, and
   layers without weights only;
2. one operand is computed from the other, or both come from a common value and exactly one of
   the two private paths is free of non-linearities, or the shortcut is an input of the module;
3. the branch holds a non-linearity (re-parameterisable sums of convolutions do not);
4. the module is neither the model itself nor inside another residual block; one that holds four
   residual modules of one class or more is a stage with a long shortcut, and no block.

Modules of the same class without an addition (a block that changes stride or width) belong too.

Where the model itself, or a module that runs several blocks, adds `f(x) + x` in its own forward
pass, f is the block: a module that is given the shortcut and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from attnzoo.structure.graph import ancestors, computed_once, nonlinear_values
from attnzoo.structure.operations import passes
from attnzoo.tracing import Call, Op, Trace

__all__ = ["Addition", "ResidualBlock", "residual_additions", "residual_blocks"]


@dataclass(frozen=True, slots=True)
class Addition:
    """`branch + shortcut`, two values, in the operation `op`."""

    op: int
    branch: int
    shortcut: int


@dataclass(frozen=True, slots=True)
class ResidualBlock:
    """A residual block.

    Attributes:
        call: the module that is the block, or its branch alone where `host` adds the shortcut.
        additions: in it; none if only its class says that it is a block.
        host: the call in whose forward pass the additions are, mostly `call` itself.
    """

    call: Call
    additions: tuple[Addition, ...]
    host: Call

    @property
    def is_branch(self) -> bool:
        """Whether the shortcut is added outside the module."""
        return self.host is not self.call


@computed_once
def residual_blocks(trace: Trace) -> tuple[ResidualBlock, ...]:
    """The residual blocks of a network, in forward order."""
    found: dict[int, list[Addition]] = {}
    for host, addition in residual_additions(trace):
        found.setdefault(host.index, []).append(addition)

    blocks: dict[int, ResidualBlock] = {}
    covered: set[int] = set()
    for index in sorted(found):
        call = trace.calls[index]
        if index not in covered and not _is_stage(trace, call, found):
            blocks[index] = ResidualBlock(call, tuple(found[index]), call)
            covered.update(call.inside)

    classes = {trace.info(block.call).qualname for block in blocks.values()}
    for call in trace.calls[1:]:
        if call.index in blocks or call.index in covered:
            continue
        if trace.info(call).qualname in classes and trace.output_map(call) is not None:
            blocks[call.index] = ResidualBlock(call, (), call)
            covered.update(call.inside)

    for op, host in _sums(trace):
        if host.index not in blocks and host.index not in covered:
            block = _written_out(trace, op, host)
            if block and not any(i in blocks for i in (block.call.index, *block.call.inside)):
                blocks[block.call.index] = block
    return tuple(blocks[index] for index in sorted(blocks))


@computed_once
def residual_additions(trace: Trace) -> tuple[tuple[Call, Addition], ...]:
    """All residual additions, those within other residual blocks too, with the module of each."""
    found = []
    for op, host in _sums(trace):
        addition = _residual(trace, op, host) if host.parent >= 0 else None
        if addition is not None:
            found.append((host, addition))
    return tuple(found)


@computed_once
def _sums(trace: Trace) -> tuple[tuple[Op, Call], ...]:
    """The additions of two maps, with the innermost module around each that is no layer."""
    hosts = [(op, _host(trace, op)) for op in trace.ops if _adds_maps(trace, op)]
    return tuple((op, host) for op, host in hosts if host is not None)


def _is_stage(trace: Trace, call: Call, hosts: Iterable[int]) -> bool:
    """Whether a module around residual ones is too large for a block."""
    inside = (trace.calls[index] for index in hosts if index in call.inside)
    return max(Counter(trace.info(inner).qualname for inner in inside).values(), default=0) >= 4


def _adds_maps(trace: Trace, op: Op) -> bool:
    """Whether an operation adds two feature maps of one shape."""
    if op.name != "add" or len(op.inputs) != 2:
        return False
    left, right = (trace.values[value] for value in op.inputs)
    return left.is_map and right.is_map and left.shape == right.shape


def _host(trace: Trace, op: Op) -> Call | None:
    """The innermost module around an addition that is more than a layer; None in attention."""
    if op.call < 0:
        return None
    call = trace.calls[op.call]
    for around in (call, *trace.enclosing(call)):
        if trace.info(around).is_attention:
            return None
    while call.parent >= 0 and trace.info(call).kind == "leaf":
        call = trace.calls[call.parent]  # an `Add()` module: the block is around it
    return call


def _written_out(trace: Trace, op: Op, host: Call) -> ResidualBlock | None:
    """The block f of `f(x) + x` or `f(x) + g(x)` in a forward pass, g without non-linearities."""
    first, second = op.inputs
    for branch, shortcut in ((first, second), (second, first)):
        if trace.values[shortcut].op < 0:
            continue  # the image itself is no feature map
        others = _called_on_one(trace, shortcut, host)
        sources = {shortcut, *(g.inputs[0] for g in others if not _bends(trace, g))}
        for call in _called_on_one(trace, branch, host):
            if call.inputs[0] in sources and _bends(trace, call):
                return ResidualBlock(call, (Addition(op.index, branch, shortcut),), host)
    return None


def _called_on_one(trace: Trace, value: int, host: Call) -> list[Call]:
    """The modules called once, by `host`, that made `value` from one tensor."""
    return [
        call
        for call in trace.returning(value)
        if call.parent == host.index
        and call.takes_tensor
        and len(call.inputs) == 1
        and trace.times_called[call.path] == 1
    ]


def _bends(trace: Trace, call: Call) -> bool:
    """Whether there is a non-linearity in a module."""
    return bool(nonlinear_values(trace) & _made_in(trace, call))


def _residual(trace: Trace, op: Op, host: Call) -> Addition | None:
    if not _reaches_output(trace, op.outputs[0], host):
        return None
    sides = _branch_and_shortcut(trace, *op.inputs, host)
    return None if sides is None else Addition(op.index, *sides)


def _reaches_output(trace: Trace, value: int, host: Call) -> bool:
    waiting, seen = [value], {value}
    while waiting:
        current = waiting.pop()
        if current in host.outputs:
            return True
        for user in trace.users(current):
            op = trace.ops[user]
            if user in host.ops and passes(op.name):
                fresh = [v for v in op.outputs if v not in seen]
                seen.update(fresh)
                waiting.extend(fresh)
        for call in trace.taking(current):
            if (
                call.index in host.inside
                and _is_neuron(trace, call)
                and call.outputs[0] not in seen
            ):
                seen.add(call.outputs[0])
                waiting.append(call.outputs[0])
    return False


def _is_neuron(trace: Trace, call: Call) -> bool:
    """Whether a module without weights makes a map of the same shape, and pools nothing.

    That is an activation, also where it is written in operations of somebody's own, as spiking
    neurons are.
    """
    given, made = trace.input_map(call), trace.output_map(call)
    if given is None or made is None or given.shape != made.shape or len(set(call.inputs)) > 1:
        return False
    names = {trace.ops[index].name for index in call.ops}
    return not trace.info(call).has_parameters and not any("pool" in name for name in names)


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
