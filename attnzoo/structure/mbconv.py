"""MBConv blocks: expand (1×1) → depthwise → project (1×1), told by their convolutions."""

from __future__ import annotations

from dataclasses import dataclass

from attnzoo.structure.graph import NONLINEAR, computed_once
from attnzoo.trace import Call, Op, Trace

__all__ = ["MBConv", "mbconvs"]


@dataclass(frozen=True, slots=True)
class MBConv:
    """An MBConv block: its call and its projecting convolution.

    `project` is None for a block of an MBConv class that has no depthwise convolution itself.
    `excite` is the squeeze-excite module between the depthwise and the projecting convolution.
    """

    call: Call
    project: Op | None
    excite: Call | None


@computed_once
def mbconvs(trace: Trace) -> tuple[MBConv, ...]:
    """The MBConv blocks of a network, in forward order.

    A block ends in a linear 1×1 projection that follows a depthwise convolution, and some block
    of the network also begins with a 1×1 expansion (else these are plain separable convolutions).
    Other blocks of an expanding class belong too.
    """
    candidates: dict[int, tuple[Call, Op, bool]] = {}
    for index, op in enumerate(trace.ops):
        if _is_depthwise(op):
            host = _host(trace, op)
            if host is not None and host.index not in candidates:
                convs = _convolutions(trace, host)
                if convs and convs[-1].index > index and _projects(trace, convs, host):
                    candidates[host.index] = (host, convs[-1], _expands(convs))

    expanding = {trace.info(call).qualname for call, _, expands in candidates.values() if expands}
    if not expanding:
        return ()
    blocks = {
        index: MBConv(call, project, _excite(trace, call, project))
        for index, (call, project, _) in candidates.items()
    }
    covered = {inner for block in blocks.values() for inner in block.call.inside}
    for call in trace.calls[1:]:
        outside = call.index not in blocks and call.index not in covered
        if outside and trace.info(call).qualname in expanding and trace.output_map(call):
            blocks[call.index] = MBConv(call, None, None)
    return tuple(blocks[index] for index in sorted(blocks) if index not in covered)


def _is_depthwise(op: Op) -> bool:
    return op.name == "convolution" and op.groups > 1 and op.weight[1] == 1


def _is_pointwise(op: Op) -> bool:
    return op.groups == 1 and set(op.kernel) == {1}


def _host(trace: Trace, op: Op) -> Call | None:
    """The innermost module around `op` that is more than a layer or a plain sequence of layers."""
    call = trace.calls[op.call]
    while call.parent >= 0:
        convs = [i for i in call.ops if trace.ops[i].name == "convolution"]
        if trace.info(call).kind == "composite" and len(convs) > 1:
            return call
        call = trace.calls[call.parent]
    return None


def _convolutions(trace: Trace, host: Call) -> list[Op]:
    """The convolutions on the block's own path: not those of a squeeze-excite on 1×1 maps."""
    output = trace.output_map(host)
    if output is None:
        return []
    tiny = (output.height, output.width) == (1, 1)
    convs = [trace.ops[i] for i in host.ops if trace.ops[i].name == "convolution"]
    return [op for op in convs if tiny or trace.values[op.outputs[0]].shape[2:] != (1, 1)]


def _projects(trace: Trace, convs: list[Op], host: Call) -> bool:
    """Whether the last two convolutions are depthwise and a linear 1×1 projection."""
    if len(convs) < 2 or not _is_depthwise(convs[-2]) or not _is_pointwise(convs[-1]):
        return False
    after = range(convs[-1].index + 1, host.end_op)
    return not any(trace.ops[i].name in NONLINEAR for i in after)


def _expands(convs: list[Op]) -> bool:
    first = convs[0]
    return len(convs) >= 3 and _is_pointwise(first) and first.weight[0] > first.weight[1]


def _excite(trace: Trace, host: Call, project: Op) -> Call | None:
    """The outermost module whose result goes into `project` and which gates by a global mean."""
    value = project.inputs[0]
    for index in host.inside:
        call = trace.calls[index]
        if call.outputs != (value,) or trace.input_map(call) is None or call.inputs[0] == value:
            continue
        makes_scalar_map = any(
            trace.values[v].is_map and trace.values[v].shape[2:] == (1, 1)
            for i in call.ops
            for v in trace.ops[i].outputs
        )
        has_map_conv = any(op.index in call.ops for op in _convolutions(trace, host))
        if makes_scalar_map and not has_map_conv:
            return call
    return None
