"""Plan: what a recipe comes to on one model, before anything is done to it."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.errors import SiteError
from attnzoo.policies import Selection, select
from attnzoo.registry import BLOCKS, BlockSpec
from attnzoo.structure import PARTS, Part, part_of, parts_called_often
from attnzoo.surgery.blind import where_channels_differ
from attnzoo.surgery.edits import Edit, Mechanism
from attnzoo.surgery.mechanism import choose_edit, is_occupied
from attnzoo.surgery.operate import build_attention, build_block, operate
from attnzoo.surgery.picture import drawn
from attnzoo.surgery.recipe import Recipe
from attnzoo.surgery.wording import described, table, why
from attnzoo.tracing import (
    FastShapes,
    Site,
    Skipped,
    Trace,
    answer,
    count,
    meta_forward,
    own_draws,
    probe,
    undisturbed,
)

__all__ = ["Plan", "PlannedSite", "carry_out", "make_plan"]


@dataclass(frozen=True)
class PlannedSite:
    """One site with the edit that will fill it and what the block there costs.

    Attributes:
        site: the place.
        edit: how the block gets there.
        parameters: that it adds.
        macs: multiply-accumulate operations that it adds, per image.
        activation_bytes: of the tensors that it makes, per float32 image.
    """

    site: Site
    edit: Edit
    parameters: int
    macs: int
    activation_bytes: int

    @property
    def mechanism(self) -> Mechanism:
        """`slot`, `insert`, `hook`, `wrap` or `replace`."""
        return self.edit.mechanism

    @property
    def path(self) -> str:
        """Where the attention will be in the module tree."""
        return self.edit.path


@dataclass(frozen=True, eq=False)
class Plan:
    """A recipe resolved on one model. Making it changes nothing; `apply` does.

    Print it for a table of the sites.

    Attributes:
        recipe: what was asked for.
        sites: the places found, in forward order.
        edits: how attention gets to each of them.
        skipped: places that a policy looked at and could not use.
        named_by: the policy that named each site.
        asked: the policy names as asked for (`auto` not resolved).
    """

    model: nn.Module = field(repr=False)
    trace: Trace = field(repr=False)
    recipe: Recipe
    sites: tuple[Site, ...]
    edits: tuple[Edit, ...]
    skipped: tuple[Skipped, ...]
    named_by: tuple[str, ...]
    asked: tuple[str, ...]
    example: Any = field(repr=False)

    @undisturbed
    def apply(self) -> nn.Module:
        """Put the blocks in; the model is changed in place and returned.

        Raises:
            SurgeryError: if the model was changed since the plan was made, or does not behave
                as planned afterwards. It is then as it was before.
        """
        return self._operate(just_traced=False)

    def _operate(self, *, just_traced: bool) -> nn.Module:
        return operate(
            self.model,
            self.recipe,
            self.sites,
            self.edits,
            self.trace,
            self.example,
            just_traced=just_traced,
        )

    @cached_property
    @undisturbed
    def rows(self) -> tuple[PlannedSite, ...]:
        """The sites with their edits and costs."""
        costs: dict[tuple[Any, ...], tuple[int, int, int]] = {}
        rows = []
        for site, edit in zip(self.sites, self.edits, strict=True):
            shape = (site.channels, site.frames, site.height, site.width, site.axes)
            if shape not in costs:
                costs[shape] = _cost(self.recipe, site)
            rows.append(PlannedSite(site, edit, *costs[shape]))
        return tuple(rows)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The part of the network that each site belongs to: trunk, neck, decoder or head."""
        return tuple(part_of(self.trace, site.value) for site in self.sites)

    @property
    def by_part(self) -> list[tuple[Part, PlannedSite]]:
        """The rows with the part of each: trunk first, then neck, decoder and head."""
        pairs = list(zip(self.parts, self.rows, strict=True))
        return sorted(pairs, key=lambda pair: PARTS.index(pair[0]))

    @property
    def why(self) -> dict[str, str]:
        """Policy → what it takes, of those that named sites."""
        return {policy: why(policy) for policy in dict.fromkeys(self.named_by)}

    @property
    def unseen(self) -> tuple[str, ...]:
        """What of the network could not be looked at, and why."""
        named = {place.path for place in self.skipped}
        often = {p: why for p, why in parts_called_often(self.trace).items() if p not in named}
        found = [f"{path}: {why}" for path, why in itertools.islice(often.items(), 3)]
        if len(often) > 3:
            found.append(f"{len(often) - 3} more parts that run several times")
        if self.trace.stopped:
            reason = self.trace.stopped.partition(". ")[0]
            found.append(f"what comes after values decide, for the pass ends there: {reason}")
        return tuple(found)

    @property
    def parameters(self) -> int:
        """Parameters that the plan adds."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations that the plan adds, per image."""
        return sum(row.macs for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """Bytes of the tensors that the plan adds to a forward pass, per float32 image."""
        return sum(row.activation_bytes for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "model": self.trace.model,
            "recipe": self.recipe.to_dict(),
            "asked": list(self.asked),
            "sites": [
                {
                    "path": row.site.path,
                    "where": row.site.where,
                    "channels": row.site.channels,
                    "height": row.site.height,
                    "width": row.site.width,
                    "stage": row.site.stage,
                    "part": part,
                    "policy": policy,
                    "mechanism": row.mechanism,
                    "attention": row.path,
                    "parameters": row.parameters,
                    "macs": row.macs,
                    "activation_bytes": row.activation_bytes,
                }
                for row, part, policy in zip(self.rows, self.parts, self.named_by, strict=True)
            ],
            "skipped": [{"path": s.path, "reason": s.reason} for s in self.skipped],
            "unseen": list(self.unseen),
            "parameters": self.parameters,
            "macs": self.macs,
            "activation_bytes": self.activation_bytes,
        }

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2)

    def describe(self) -> str:
        """In words: the places by part and stage, why each is one, and what was left out."""
        return described(self)

    def draw(self) -> str:
        """The network with its places, as the text of an SVG picture.

        Maps from left to right, part by part, as high as their resolution and as wide as their
        channels ask for; a title on each names its module.
        """
        return drawn(self)

    def __str__(self) -> str:
        return table(self)


#: Factory, start and options, and map, of blocks that were seen to keep the shape of their input.
_KEPT: set[tuple[Any, str, tuple[int, ...]]] = set()


def make_plan(model: nn.Module, recipe: Recipe, example: Any = None) -> Plan:
    """Resolve a recipe on a model, without changing it.

    Raises:
        NoSitesError: a policy finds no place.
        SiteError: a place is occupied, named twice, or cannot hold a block.
        OptionError: the block refuses an option.
        TraceError, UnsupportedModelError: see `attnzoo.tracing.probe.probe`.
    """
    trace = probe(model, example)
    selections = []
    for call in recipe.policies:
        answer()
        selections.append(select(trace, call))
    spec = BLOCKS[recipe.block]
    if spec.kind == "channel":
        selections = [where_channels_differ(trace, one, recipe.block) for one in selections]
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
    )
    by = {id(site): one.policy.name for one in selections for site in one.sites}
    return Plan(
        model=model,
        trace=trace,
        recipe=resolved,
        sites=tuple(site for site, _ in placed),
        edits=tuple(edit for _, edit in placed),
        skipped=tuple(skip for one in selections for skip in one.skipped) + left_out,
        named_by=tuple(by[id(site)] for site, _ in placed),
        asked=tuple(selection.asked for selection in selections),
        example=example,
    )


@undisturbed
def carry_out(plan: Plan) -> nn.Module:
    """Apply a plan that was just made, so that all its trace tells of the model still holds.

    Raises:
        SurgeryError: the model does not behave as planned afterwards. It is then as it was before.
    """
    return plan._operate(just_traced=True)


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


def _cost(recipe: Recipe, site: Site) -> tuple[int, int, int]:
    """`(parameters, MACs, activation bytes)` of the attention at a site, per float32 image."""
    with own_draws():
        attention = build_attention(recipe, site, "meta")
    sizes = {"N": 1, "C": site.channels, "D": site.frames, "H": site.height, "W": site.width}
    x = torch.empty([sizes[axis] for axis in site.axes], device="meta")
    counted = count(attention, (x,), {})
    return sum(p.numel() for p in attention.parameters()), counted.macs, counted.activation_bytes


def _input_size(trace: Trace) -> tuple[int, ...] | None:
    shapes = [value.shape for value in trace.inputs]
    if len(shapes) != 1 or len(shapes[0]) not in (4, 5):
        return None
    (shape,) = shapes
    return shape[1:] if len(shape) == 4 else (1, *shape[1:])
