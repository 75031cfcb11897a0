"""From a recipe and a model to a plan: everything is looked at, nothing is changed."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.errors import OptionError, SiteError
from attnzoo.policies import Selection, select
from attnzoo.registry import BLOCKS, BlockSpec
from attnzoo.structure import behind_instance_norm
from attnzoo.surgery.blind import where_channels_differ
from attnzoo.surgery.edits import Edit
from attnzoo.surgery.mechanism import choose_edit, is_occupied
from attnzoo.surgery.operate import build_block
from attnzoo.surgery.plan import Plan
from attnzoo.surgery.recipe import Recipe
from attnzoo.surgery.wording import refuse_cut_short
from attnzoo.tracing import (
    FastShapes,
    Site,
    Skipped,
    Trace,
    answer,
    meta_forward,
    model_dtype,
    own_draws,
    probe,
    resolve_example,
    tell_arguments,
)

__all__ = ["make_plan"]

#: Bytes of one block. Options may come from a file, and are to cost no more than a wrong one.
HEAVIEST = 2**31
_MEANS = frozenset(
    {
        torch.ops.aten.mean.dim,
        torch.ops.aten.sum.dim_IntList,
        torch.ops.aten._adaptive_avg_pool2d.default,
    }
)

_LAYERS = frozenset(
    {
        torch.ops.aten.convolution.default,
        torch.ops.aten.addmm.default,
        torch.ops.aten.mm.default,
        torch.ops.aten.bmm.default,
    }
)

#: Factory, start and options, and map, of blocks that were seen to keep the shape of their input.
_KEPT: set[tuple[Any, str, tuple[int, ...]]] = set()


def make_plan(
    model: nn.Module, recipe: Recipe, example: Any = None, *, strict: bool = False
) -> Plan:
    """Resolve a recipe on a model, without changing it.

    Args:
        model: read, not changed.
        recipe: what is asked for.
        example: what to trace the model with.
        strict: whether to refuse a model whose forward pass can't be followed to its end.

    Raises:
        NoSitesError: a policy finds no place.
        SiteError: a place is occupied, named twice, or cannot hold a block.
        OptionError: the block refuses an option.
        TraceError, UnsupportedModelError: see `attnzoo.tracing.probe.probe`.
    """
    trace = probe(model, example)
    if strict:
        refuse_cut_short(trace)
    selections = []
    for call in recipe.policies:
        answer()
        selections.append(select(trace, call))
    spec = BLOCKS[recipe.block]
    selections, half_blind = _seeing(trace, selections, spec, recipe)
    sites = _place(trace, selections)
    replaced = next((site for site in sites if site.where == "replace"), None)
    if recipe.start == "neutral" and replaced is not None:
        raise SiteError(
            f'start="neutral" begins by handing its input on, and {replaced} is in the place of a '
            f'module that does more than that. Take start="identity", where the module goes on at '
            f'first, or start="paper".'
        )
    shapes = dict.fromkeys((1, s.channels, s.height, s.width) for s in sites)
    with own_draws():
        for shape in shapes:
            asked = (spec.factory, repr((recipe.start, sorted(recipe.options.items()))), shape)
            if asked not in _KEPT:
                _check_shape(spec, recipe, shape)
                _KEPT.add(asked)
    told = {site for one in selections if one.policy.name == "match" for site in one.sites}
    placed, left_out = _choose_edits(trace, model, sites, told)
    resolved = Recipe(
        policies=tuple(selection.policy for selection in selections),
        block=recipe.block,
        options=recipe.options,
        start=recipe.start,
        input_size=_input_size(trace),
        arguments=_arguments(model, trace, example),
        name=recipe.name,
    )
    by = {id(site): one.policy.name for one in selections for site in one.sites}
    return Plan(
        model=model,
        trace=trace,
        recipe=resolved,
        sites=tuple(site for site, _ in placed),
        edits=tuple(edit for _, edit in placed),
        skipped=tuple(skip for one in selections for skip in one.skipped) + left_out,
        half_blind=half_blind,
        named_by=tuple(by[id(site)] for site, _ in placed),
        asked=tuple(selection.asked for selection in selections),
        example=example,
    )


def _seeing(
    trace: Trace, selections: list[Selection], spec: BlockSpec, recipe: Recipe
) -> tuple[list[Selection], tuple[Skipped, ...]]:
    """The selections at places where the block sees something, and those where part of it does."""
    in_part = spec.kind != "channel"
    if in_part:
        sites = [site for one in selections for site in one.sites]
        blind = next((site for site in sites if behind_instance_norm(trace, site.value)), None)
        if blind is None or not _takes_means(spec, recipe, blind.channels):
            return selections, ()
    found = [where_channels_differ(trace, one, recipe.block, in_part=in_part) for one in selections]
    return [kept for kept, _ in found], tuple(place for _, half in found for place in half)


def _takes_means(spec: BlockSpec, recipe: Recipe, channels: int) -> bool:
    """Whether a block makes weights of the mean of every channel of its map, by a layer."""
    shapes, x = FastShapes(), torch.empty((1, channels, 8, 8), device="meta")
    with own_draws():
        block = build_block(spec, channels, recipe.options, "meta", recipe.start).eval()
    try:
        meta_forward(block, (x,), {}, [shapes])
    except Exception:  # what it is, is said where its shape is checked
        return False
    means: set[int] = set()
    for func, args, _, made in shapes.values.steps:
        given = {id(arg) for arg in args if isinstance(arg, Tensor)}
        layer = func in _LAYERS
        if layer and means & given:
            return True
        pooled = func in _MEANS and args[0] is x
        if isinstance(made, Tensor) and made.numel() == channels and (pooled or means & given):
            means.add(id(made))
    return False


def _place(trace: Trace, selections: list[Selection]) -> list[Site]:
    """The sites of all policies in forward order; places that are taken settled as asked.

    A policy that names a place by two modules, of which one hands on what the other made, means
    one place.
    """
    sites: list[Site] = []
    for selection in selections:
        own: list[Site] = []
        for site in selection.sites:
            if any(_same_place(other, site) for other in own):
                continue
            own.append(site)
            twin = next((other for other in sites if _same_place(other, site)), None)
            free = twin is None and not is_occupied(trace, site)
            if free or selection.occupied == "stack":
                sites.append(site)
            elif selection.occupied == "refuse":
                found = f"is named twice ({twin})" if twin else "has attention already"
                raise SiteError(
                    f"policy {selection.asked!r}: the place {site} {found}. Leave it out by "
                    f"exclude=, or say what to do with ({selection.asked!r}, "
                    f'{{"occupied": "skip"}}) or "stack".'
                )
    if not sites:
        raise SiteError("every place these policies name has attention already.")
    return sorted(sites, key=lambda site: (site.value, site.call))


def _choose_edits(
    trace: Trace, model: nn.Module, sites: list[Site], told: set[Site]
) -> tuple[list[tuple[Site, Edit]], tuple[Skipped, ...]]:
    """The sites with the edit at each, and those that none fits.

    Raises:
        SiteError: none fits any site, or one of those that the user named.
    """
    placed: list[tuple[Site, Edit]] = []
    errors: dict[Site, SiteError] = {}
    taken: set[str] = set()
    for site in sites:
        try:
            placed.append((site, choose_edit(trace, model, site, taken)))
        except SiteError as error:
            if site in told:
                raise
            errors[site] = error
    if not placed:
        raise next(iter(errors.values()))
    return placed, tuple(Skipped(site.path, str(error)) for site, error in errors.items())


def _same_place(one: Site, other: Site) -> bool:
    if one.where == other.where != "after":
        return one.value == other.value and one.path == other.path
    return one.value == other.value and "replace" not in (one.where, other.where)


def _check_shape(spec: BlockSpec, recipe: Recipe, shape: tuple[int, ...]) -> None:
    """Build the block on meta tensors and see that it keeps the shape of its input."""
    block = build_block(spec, shape[1], recipe.options, "meta", recipe.start).eval()
    held = sum(tensor.nbytes for tensor in itertools.chain(block.parameters(), block.buffers()))
    if held > HEAVIEST:
        raise OptionError(
            f"block {spec.name!r} with {recipe.options} takes {held / 2**30:,.0f} GiB for a map of "
            f"{shape[1]} channels; at most {HEAVIEST / 2**30:.0f} are built. Take smaller options."
        )
    x = torch.empty(shape, device="meta")
    version = x._version
    try:
        result = meta_forward(block, (x,), {}, [FastShapes()])
    except Exception as error:
        raise SiteError(
            f"block {spec.name!r} fails on a map of shape {shape}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(result, Tensor) or tuple(result.shape) != shape:
        got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise SiteError(
            f"block {spec.name!r} turns a map of shape {shape} into {got}; a block must keep the "
            f"shape of its input."
        )
    if x._version != version:
        raise SiteError(
            f"block {spec.name!r} changes its input in place, which others read too. Let it begin "
            f"with an operation that makes a new tensor (inplace=False)."
        )


def _arguments(model: nn.Module, trace: Trace, example: Any) -> dict[str, Any] | None:
    """What was traced, where the size of its input does not tell it all."""
    if example is None:
        return None  # the network's default, which it has again
    args, kwargs = resolve_example(model, example)
    one = args[0] if len(args) == 1 and not kwargs else None
    if (
        isinstance(one, Tensor)
        and (len(one), one.dtype) == (1, model_dtype(model))
        and _input_size(trace) is not None
    ):
        return None
    return tell_arguments(args, kwargs)


def _input_size(trace: Trace) -> tuple[int, ...] | None:
    shapes = [value.shape for value in trace.inputs]
    if len(shapes) != 1 or len(shapes[0]) not in (4, 5):
        return None
    (shape,) = shapes
    return shape[1:] if len(shape) == 4 else (1, *shape[1:])
