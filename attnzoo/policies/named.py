"""Policies named after the places that papers put attention at."""

from __future__ import annotations

from attnzoo.checks import check_choice
from attnzoo.errors import SiteError
from attnzoo.registry import register_policy
from attnzoo.sites import Site, Skipped
from attnzoo.structure import (
    Addition,
    ResidualBlock,
    functional_pools,
    mbconvs,
    on_trunk,
    pool_calls,
    residual_blocks,
    transitions,
    units,
)
from attnzoo.structure.graph import PASSES
from attnzoo.trace import LEVEL_RATIO, Call, Trace

__all__ = ["in_residual", "mbconv", "post_residual", "pre_pool", "stage_end", "transition"]

Found = list[Site | Skipped]


@register_policy(
    "pre-pool", source="VGG16 with attention, the reference", looks_for="spatial pooling layers"
)
def pre_pool(trace: Trace, trunk_only: bool = False) -> Found:
    """Before every spatial pooling layer.

    `trunk_only=True` leaves out pools beside the main path, such as those in the shortcuts of
    ResNet-D. A pool called as a function gets the block after the module that made its input,
    where there is exactly one.
    """
    found: Found = [
        trace.before(call)
        for call in pool_calls(trace)
        if not trunk_only or on_trunk(trace, call.outputs[0])
    ]
    for pool in functional_pools(trace):
        if trunk_only and not on_trunk(trace, pool.value):
            continue
        if pool.producer is not None:
            found.append(trace.after(pool.producer))
        else:
            reason = "it is pooled by a function, and no single module makes its input"
            found.append(Skipped(pool.host.path, reason))
    return found


@register_policy("post-residual", source="ResNet", looks_for="residual blocks")
def post_residual(trace: Trace) -> Found:
    """After every residual block."""
    return [_after(trace, block.call) for block in residual_blocks(trace)]


@register_policy("in-residual", source="SE (2017), CBAM (2018)", looks_for="residual additions")
def in_residual(trace: Trace) -> Found:
    """On the residual branch, just before the addition (and before a drop path)."""
    found: Found = []
    for block in residual_blocks(trace):
        if not block.additions:
            found.append(Skipped(block.call.path, "this block adds no shortcut"))
        found += [_on_branch(trace, block, addition) for addition in block.additions]
    return found


@register_policy("transition", source="DenseNet", looks_for="DenseNet transition layers")
def transition(trace: Trace) -> Found:
    """In every DenseNet transition layer, before its pool."""
    return [trace.before(layer.pool) for layer in transitions(trace)]


@register_policy("mbconv", source="EfficientNet, MobileNet", looks_for="MBConv blocks")
def mbconv(trace: Trace, position: str = "after") -> Found:
    """After every MBConv block, or in its squeeze-excite slot.

    `position="se"` takes the slot between the depthwise convolution and the projection: in place
    of the squeeze-excite module, or where none is.
    """
    check_choice("policy 'mbconv'", "position", position, ("after", "se"))
    if position == "after":
        return [_after(trace, block.call) for block in mbconvs(trace)]
    found: Found = []
    for block in mbconvs(trace):
        if block.project is None:
            found.append(Skipped(block.call.path, "it has no depthwise convolution"))
        elif block.excite is not None:
            found.append(trace.replace(block.excite))
        else:
            found.append(_made(trace, block.call, block.project.inputs[0]))
    return found


@register_policy("stage-end", source="BAM (2018)", looks_for="feature maps along a trunk")
def stage_end(trace: Trace) -> Found:
    """After the last feature map of every resolution level.

    Levels at which the network only pools are left out; where a level has blocks, the last of
    them is taken rather than a layer that prepares the next level.
    """
    levels: list[list] = []
    for unit in units(trace):
        if (unit.output.height, unit.output.width) == (1, 1):
            continue
        if levels and unit.output.height >= levels[-1][-1].output.height * LEVEL_RATIO:
            break  # a decoder begins: its resolutions have been met on the way down
        if not levels or unit.output.height * LEVEL_RATIO <= levels[-1][-1].output.height:
            levels.append([])
        levels[-1].append(unit)
    found: Found = []
    for level in levels:
        blocks = [unit for unit in level if unit.is_block]
        if any(trace.info(unit.call).has_state for unit in level):
            found.append(_after(trace, (blocks or level)[-1].call))
    return found


def _after(trace: Trace, call: Call) -> Site | Skipped:
    try:
        return trace.after(call)
    except SiteError as error:
        return Skipped(call.path, str(error))


def _on_branch(trace: Trace, block: ResidualBlock, addition: Addition) -> Site | Skipped:
    """The last place on the branch that a module made, walking back over element-wise steps."""
    value = addition.branch
    while True:
        site = _made(trace, block.call, value)
        made_by = trace.values[value].op
        if isinstance(site, Site) or made_by not in block.call.ops:
            return site
        op = trace.ops[made_by]
        if op.name not in PASSES or len(set(op.inputs)) != 1:
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
    # the block's own drop path rather than the dropout inside one of its layers, which a
    # conversion of that layer may leave behind
    once.sort(key=lambda call: call.parent != block.index)
    if once and trace.values[value].is_map:
        return trace.before(once[0])
    for call in reversed(inside):
        made = call.outputs == (value,) and call not in passing
        if made and trace.output_map(call) is not None:
            return trace.after(call)
    return Skipped(block.path, "no module makes the feature map there")
