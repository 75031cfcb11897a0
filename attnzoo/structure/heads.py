"""Where the heads of a network begin: what is given several levels, or is run for each of them."""

from __future__ import annotations

from dataclasses import dataclass

from attnzoo.structure.beside import risen_values, shown_maps
from attnzoo.structure.fusions import fusions, same_level
from attnzoo.structure.graph import ancestors, computed_once
from attnzoo.structure.scores import returned_values
from attnzoo.tracing import LEVEL_RATIO, Call, Trace

__all__ = ["Head", "head"]


@dataclass(frozen=True, slots=True)
class Head:
    """What a head of several levels is given.

    Attributes:
        calls: the modules that are the head: one for all levels, or one called for each; none
            where the network returns the levels.
        inputs: the maps, from the finest to the coarsest.
        scores: whether the network returns what last convolutions make of them.
    """

    calls: tuple[Call, ...]
    inputs: tuple[int, ...]
    scores: bool = False


@computed_once
def head(trace: Trace) -> Head | None:
    """The head of a network whose neck hands on maps of several levels; None if it has none.

    That is the first module that is given several levels, returns none of them and fuses none, with
    nothing fused behind it; else a module that is called for several levels; else what the network
    returns, or makes its scores of.
    """
    for call in trace.calls[1:]:
        levels = _levels(trace, call.inputs) if len(call.inputs) > 1 else ()
        if len(levels) > 1 and not _hands_on(trace, call, levels) and _fuses_no_more(trace, call):
            return Head((call,), levels)
    repeated: dict[str, list[Call]] = {}
    for call in trace.calls[1:]:
        several = trace.times_called[call.path] > 1 and trace.info(call).has_parameters
        if several and trace.input_map(call) is not None:
            repeated.setdefault(call.path, []).append(call)
    for calls in repeated.values():
        levels = _levels(trace, [call.inputs[0] for call in calls])
        if len(levels) > 1 and all(_fuses_no_more(trace, call) for call in calls):
            return Head(tuple(calls), levels)
    levels = _levels(trace, _no_images(trace))
    before = [_before_scores(trace, value) for value in levels]
    scores = all(value is not None for value in before)
    if scores:
        levels = _levels(trace, [value for value in before if value is not None])
    sizes = {trace.values[value].height for value in levels}
    several = bool(sizes) and min(sizes) * LEVEL_RATIO <= max(sizes)
    return Head((), levels, scores) if several else None


def _no_images(trace: Trace) -> list[int]:
    """What a network returns, without images beside the code that they were made from.

    An autoencoder returns both.
    """
    image = next((value for value in trace.inputs if value.is_map), None)
    sets, outputs = ancestors(trace), trace.outputs
    return [
        value
        for value in outputs
        if image is None
        or trace.values[value].shape[2:] != image.shape[2:]
        or not any(sets[value] >> other & 1 for other in outputs if other != value)
    ]


def _hands_on(trace: Trace, call: Call, levels: tuple[int, ...]) -> bool:
    """Whether a module returns levels that it was given, for others to read.

    A head may return them beside boxes, for its loss.
    """
    returned = set(levels) & set(call.outputs)
    read = (user >= call.end_op for value in returned for user in trace.users(value))
    return bool(returned) and (any(read) or all(trace.values[v].is_map for v in call.outputs))


def _before_scores(trace: Trace, output: int) -> int | None:
    """The map that a head, or a last convolution, makes an output of.

    None if no module makes what that convolution takes: then it may be a level's own.
    """
    value = output
    while value in returned_values(trace):
        op = trace.ops[trace.values[value].op]
        around = [call for call in trace.returning(value) if _is_a_head(trace, call)]
        value = around[0].inputs[0] if around else op.inputs[0]
        if around or op.name == "convolution":
            made = any(call.parent >= 0 and call.ops for call in trace.returning(value))
            return value if around or made else None
    return None


def _is_a_head(trace: Trace, call: Call) -> bool:
    """Whether a module with layers inside, called once, narrows one map of its level to scores."""
    given, made = trace.input_map(call), trace.output_map(call)
    if call.parent < 0 or given is None or made is None or len(set(call.inputs)) != 1:
        return False
    inside = trace.times_called[call.path] == 1 and trace.info(call).kind != "leaf"
    narrows = made.channels < given.channels and same_level(given, made)
    return inside and narrows and _fuses_no_more(trace, call)


def _levels(trace: Trace, values: tuple[int, ...] | list[int]) -> tuple[int, ...]:
    """The last map of each level, from the finest on; none where nothing has risen.

    Several levels of one size, as those behind a dilated backbone, are made side by side.
    """
    shown, risen = shown_maps(trace), risen_values(trace)
    maps = [value for value in values if shown >> value & 1] if risen else []
    if not any(risen >> value & 1 for value in maps):
        return ()
    found: list[int] = []
    sets = ancestors(trace)
    for value in sorted(maps, key=lambda value: (-trace.values[value].height, value)):
        same = found and same_level(trace.values[value], trace.values[found[-1]])
        if same and sets[max(value, found[-1])] >> min(value, found[-1]) & 1:
            found[-1] = max(value, found[-1])
        elif value not in found:
            found.append(value)
    return tuple(found)


def _fuses_no_more(trace: Trace, call: Call) -> bool:
    """Whether nothing that a module makes is fused, in it or behind it."""
    made = 0
    for index in call.ops:
        for value in trace.ops[index].outputs:
            made |= 1 << value
    return bool(made) and not any(ancestors(trace)[fused] & made for fused in fusions(trace))
