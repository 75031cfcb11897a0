"""MBConv blocks: expand (1×1) → depthwise → project (1×1), told by their convolutions.

The depthwise convolution, or one of small groups, or several side by side as in MixNet, stands
between a widening and a linear 1×1 convolution, in at least half of the modules of some class.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from attnzoo.structure.beside import risen_values
from attnzoo.structure.graph import ancestors, computed_once, nonlinear_values
from attnzoo.tracing import Call, Op, Trace

__all__ = ["MBConv", "mbconvs"]

#: A depthwise convolution may take channels in groups of up to this many (EfficientNet g8, g16).
_SMALL_GROUP = 16


@dataclass(frozen=True, slots=True)
class MBConv:
    """An MBConv block: its call, and the map between its depthwise convolution and its projection.

    `middle` is None for a block of an MBConv class that has no depthwise convolution itself.
    `excite` is the squeeze-excite module that makes that map, if there is one.
    """

    call: Call
    middle: int | None
    excite: Call | None


@dataclass(frozen=True, slots=True)
class _Layer:
    """One convolution, or the parallel ones of a mixed convolution, each on a part of `taken`."""

    ops: tuple[Op, ...]
    taken: int

    @property
    def is_pointwise(self) -> bool:
        return all(op.groups == 1 and set(op.kernel) == {1} for op in self.ops)

    @property
    def is_depthwise(self) -> bool:
        """Whether it convolves each channel, or each small group of channels, for itself."""
        return all(
            op.groups > 1 and op.weight[1] <= _SMALL_GROUP and max(op.kernel) > 1 for op in self.ops
        )

    @property
    def is_grouped(self) -> bool:
        return any(op.weight[1] > 1 for op in self.ops)

    @property
    def widens(self) -> int:
        """By how many channels a pointwise layer is wider than its input; negative: narrower."""
        return sum(op.weight[0] - op.weight[1] for op in self.ops)


@computed_once
def mbconvs(trace: Trace) -> tuple[MBConv, ...]:
    """The MBConv blocks of a network, in forward order.

    A block ends in a linear 1×1 projection that follows a depthwise convolution, and at least half
    of the blocks of some class also have a 1×1 expansion before that (else these are plain
    separable convolutions). Another depthwise convolution may come first, as in MobileNetV4.
    Other blocks of an expanding class belong too. Those of another class are meant only on the
    way down: necks and heads have separable convolutions as well.
    """
    candidates: dict[int, tuple[Call, _Layer]] = {}
    expanding: Counter[str] = Counter()
    for op in trace.ops:
        if op.name == "convolution" and _Layer((op,), 0).is_depthwise:
            host = _host(trace, op)
            if host is None or host.index in candidates:
                continue
            layers = _layers(trace, host)
            if layers and layers[-1].ops[0].index > op.index and _projects(trace, layers, host):
                candidates[host.index] = (host, layers[-1])
                expanding[trace.info(host).qualname] += _expands(layers)

    called = Counter(trace.info(call).qualname for call in trace.calls)
    classes = {name for name, count in expanding.items() if count and 2 * count >= called[name]}
    if not classes:
        return ()
    blocks = {
        index: MBConv(call, last.taken, _excite(trace, call, last.taken))
        for index, (call, last) in candidates.items()
        if trace.info(call).qualname in classes or _leads_down(trace, call)
    }
    covered = {inner for block in blocks.values() for inner in block.call.inside}
    for call in trace.calls[1:]:
        outside = call.index not in blocks and call.index not in covered
        if outside and trace.info(call).qualname in classes and trace.output_map(call):
            blocks[call.index] = MBConv(call, None, None)
    return tuple(blocks[index] for index in sorted(blocks) if index not in covered)


def _leads_down(trace: Trace, call: Call) -> bool:
    """Whether nothing coarser has risen into what a module makes, as in a neck and in a head."""
    risen, spread, sets = risen_values(trace), _spread_pixels(trace), ancestors(trace)
    return not any(risen >> value & 1 or sets[value] & spread for value in call.outputs)


@computed_once
def _spread_pixels(trace: Trace) -> int:
    """The maps that upsampling makes of one pixel, as the bits of an int.

    Of a small image that pixel is a neck's coarsest level.
    """
    bits = 0
    for op in trace.ops:
        if op.name.startswith("upsample") and trace.values[op.inputs[0]].is_point:
            bits |= 1 << op.outputs[0]
    return bits


def _host(trace: Trace, op: Op) -> Call | None:
    """The innermost module around `op` that is more than a layer or a plain sequence of layers."""
    call = trace.calls[op.call]
    while call.parent >= 0:
        if trace.info(call).kind == "composite" and len(_layers(trace, call)) > 1:
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


def _layers(trace: Trace, host: Call) -> list[_Layer]:
    """The block's convolutions in order; those of one mixed convolution (MixNet) as one."""
    layers: list[_Layer] = []
    last_parent = -1
    for op in _convolutions(trace, host):
        parent = trace.calls[op.call].parent
        mixed = parent == last_parent and parent != host.index and layers
        if mixed and not _follows(trace, op, layers[-1]):
            layers[-1] = _Layer((*layers[-1].ops, op), trace.calls[parent].inputs[0])
        else:
            layers.append(_Layer((op,), op.inputs[0]))
        last_parent = parent
    return layers


def _follows(trace: Trace, op: Op, layer: _Layer) -> bool:
    """Whether `op` is computed from what `layer` makes."""
    sources = ancestors(trace)[op.inputs[0]]
    return any(sources >> other.outputs[0] & 1 for other in layer.ops)


def _projects(trace: Trace, layers: list[_Layer], host: Call) -> bool:
    """Whether the last two layers are depthwise and a linear 1×1 projection."""
    if len(layers) < 2 or not layers[-2].is_depthwise or not layers[-1].is_pointwise:
        return False
    if layers[-2].is_grouped and layers[-1].widens >= 0:
        return False  # groups in a bottleneck, as in ResNeXt
    after = range(layers[-1].ops[-1].index + 1, host.end_op)
    bent = nonlinear_values(trace)
    return not any(bent >> value & 1 for i in after for value in trace.ops[i].outputs)


def _expands(layers: list[_Layer]) -> bool:
    """Whether a 1×1 convolution widens right before the depthwise one."""
    if len(layers) < 3 or not all(layer.is_depthwise for layer in layers[:-3]):
        return False
    return layers[-3].is_pointwise and layers[-3].widens > 0


def _excite(trace: Trace, host: Call, value: int) -> Call | None:
    """The outermost module that makes the map `value` and gates it by a global mean."""
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
