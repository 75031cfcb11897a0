"""Policies named after the places that papers put attention at."""

from __future__ import annotations

from attnzoo.checks import check_choice
from attnzoo.errors import SiteError
from attnzoo.registry import register_policy
from attnzoo.structure import (
    Addition,
    ResidualBlock,
    StageEnd,
    called_once,
    composites,
    functional_pools,
    maker,
    mbconvs,
    on_trunk,
    only_reader,
    passed_on,
    passes,
    pool_calls,
    residual_blocks,
    stage_ends,
    transitions,
)
from attnzoo.tracing import Call, Site, Skipped, Trace

__all__ = [
    "in_block",
    "in_residual",
    "mbconv",
    "post_residual",
    "pre_pool",
    "stage_end",
    "transition",
]

Found = list[Site | Skipped]


@register_policy(
    "pre-pool", source="VGG16 with attention, the reference", looks_for="spatial pooling layers"
)
def pre_pool(trace: Trace, trunk_only: bool = False) -> Found:
    """Before every spatial pooling layer.

    A pool called as a function, or one module called for several pools, gets the block after the
    module that made its input, where there is exactly one: before the `relu` of
    `F.max_pool2d(F.relu(conv(x)), 2)`. What else reads that map sees the attention, too.

    Args:
        trace: of the network.
        trunk_only: whether to leave out pools beside the main path, such as those in the shortcuts
            of ResNet-D.
    """
    found: Found = [
        _before_pool(trace, call)
        for call in pool_calls(trace)
        if not trunk_only or on_trunk(trace, call.outputs[0])
    ]
    for pool in functional_pools(trace):
        if trunk_only and not on_trunk(trace, pool.result):
            continue
        if pool.producer is not None:
            found.append(_after(trace, pool.producer))
        elif pool.first:
            found.append(trace.before(pool.host))
        else:
            reason = "it is pooled by a function, and no single module makes its input"
            found.append(Skipped(pool.host.path, reason))
    return found


def _before_pool(trace: Trace, pool: Call) -> Site | Skipped:
    host, times = trace.parent(pool), trace.times_called[pool.path]
    if host is None or times == 1:
        return trace.before(pool)
    made_by = maker(trace, pool.inputs[0], host)
    if made_by is not None:
        return _after(trace, made_by)
    if trace.times_called[host.path] > 1:
        return trace.before(pool)  # which says that a place for one call is a place for all
    return Skipped(pool.path, f"it is called {times} times, and no single module makes its input")


@register_policy("post-residual", source="ResNet", looks_for="residual blocks")
def post_residual(trace: Trace) -> Found:
    """After every residual block.

    Where the model itself adds the shortcut to what a module returns, on the sum.
    """
    return [
        _on_sum(trace, block) if block.is_branch else _after(trace, block.call)
        for block in residual_blocks(trace)
    ]


@register_policy("in-residual", source="SE (2017), CBAM (2018)", looks_for="residual additions")
def in_residual(trace: Trace) -> Found:
    """On the residual branch, just before the addition (and before a drop path)."""
    found: Found = []
    for block in residual_blocks(trace):
        if not block.additions:
            found.append(Skipped(block.call.path, "this block adds no shortcut"))
        found += [_on_branch(trace, block, addition) for addition in block.additions]
    return found


@register_policy("in-block", source="YOLOv8, CSPNet (2020)", looks_for="blocks of blocks")
def in_block(trace: Trace) -> Found:
    """On the inner residual branches of blocks that join smaller ones: C2f, C3k2, CSP, ELAN.

    On the branch, just before the addition; after the smaller block where it adds no shortcut.
    """
    found: Found = []
    for composite in composites(trace):
        for inner in composite.inner:
            if inner.addition is None:
                found.append(_after(trace, inner.call))
            else:
                host = ResidualBlock(inner.call, (inner.addition,), inner.call)
                found.append(_on_branch(trace, host, inner.addition))
    return found


@register_policy("transition", source="DenseNet", looks_for="DenseNet transition layers")
def transition(trace: Trace) -> Found:
    """In every DenseNet transition layer, before its pool.

    Where the convolution strides, as in RDNet, or a function pools, after the convolution.
    """
    return [
        _after(trace, layer.convolution) if layer.pool is None else trace.before(layer.pool)
        for layer in transitions(trace)
    ]


@register_policy("mbconv", source="EfficientNet, MobileNet", looks_for="MBConv blocks")
def mbconv(trace: Trace, position: str = "after") -> Found:
    """After every MBConv block, or in its squeeze-excite slot.

    Args:
        trace: of the network.
        position: `"after"` the block, or `"se"`: in the slot between the depthwise convolution and
            the projection, in place of the squeeze-excite module or where none is.
    """
    check_choice("policy 'mbconv'", "position", position, ("after", "se"))
    if position == "after":
        return [_after(trace, block.call) for block in mbconvs(trace)]
    found: Found = []
    for block in mbconvs(trace):
        if block.middle is None:
            found.append(Skipped(block.call.path, "it has no depthwise convolution"))
        elif block.excite is not None:
            found.append(trace.replace(block.excite))
        else:
            found.append(_made(trace, block.call, block.middle))
    return found


@register_policy("stage-end", source="BAM (2018)", looks_for="feature maps that layers make")
def stage_end(trace: Trace) -> Found:
    """After the last feature map of every resolution level.

    Levels at which the network only pools are left out; where a level has blocks, the last of
    them is taken rather than a layer that prepares the next level. Where branches of several
    resolutions run side by side, it is the last map before a coarser one flows in. Where the
    network has a neck or a decoder, its encoder's levels are meant.
    """
    return [_at_end(trace, end) for end in stage_ends(trace)]


def _at_end(trace: Trace, end: StageEnd) -> Site | Skipped:
    if end.call is not None:
        return trace.before(end.call) if end.where == "before" else _after(trace, end.call)
    host = trace.calls[trace.ops[trace.values[end.value].op].call]
    height, width = (getattr(trace.values[end.value], side) for side in ("height", "width"))
    return Skipped(
        host.path,
        f"a function joins branches there, at {height}×{width}, and no single module makes or "
        f"takes what it returns",
    )


def _after(trace: Trace, call: Call) -> Site | Skipped:
    try:
        return trace.after(call)
    except SiteError as error:
        return Skipped(call.path, str(error))


def _on_sum(trace: Trace, block: ResidualBlock) -> Site | Skipped:
    """After the module that adds or the activation behind it, else before what reads the sum."""
    total = trace.ops[block.additions[0].op].outputs[0]
    value = passed_on(trace, total)
    made_by, reader = maker(trace, value, block.host), only_reader(trace, value)
    if made_by is not None and made_by.ops and made_by.first_op >= block.additions[0].op:
        return _after(trace, made_by)
    if reader is not None:
        return trace.before(reader)
    return Skipped(block.call.path, "no single module makes or takes the sum with the shortcut")


def _on_branch(trace: Trace, block: ResidualBlock, addition: Addition) -> Site | Skipped:
    """The last place on the branch that a module made, walking back over element-wise steps."""
    value = addition.branch
    while True:
        site = _made(trace, block.host, value)
        made_by = trace.values[value].op
        if isinstance(site, Site) or made_by not in block.host.ops:
            return site
        op = trace.ops[made_by]
        if not passes(op.name) or len(set(op.inputs)) != 1:
            return site
        value = op.inputs[0]


def _made(trace: Trace, block: Call, value: int) -> Site | Skipped:
    """The site on `value` inside `block`: before a module that passes it on, else after its maker.

    A module that takes the value and returns it unchanged in eval mode is a drop path, a
    dropout or an empty slot; attention goes before it.
    """
    inside = [trace.calls[i] for i in block.inside]
    passing = [c for c in inside if c.inputs[:1] == c.outputs == (value,) and not c.ops]
    once = [c for c in passing if trace.times_called[c.path] == 1 and c.takes_tensor]
    once = [c for c in once if c.index not in trace.unread]
    # the block's own drop path rather than the dropout inside one of its layers, which a
    # conversion of that layer may leave behind
    once.sort(key=lambda call: call.parent != block.index)
    if once and trace.values[value].is_map:
        return trace.before(once[0])
    for call in reversed(inside):
        made = call.outputs == (value,) and call not in passing and call.index not in trace.unread
        if made and trace.output_map(call) is not None:
            return trace.after(called_once(trace, call))
    return Skipped(block.path, "no module makes the feature map there")
