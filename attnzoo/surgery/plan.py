"""Plan: what a recipe comes to on one model, before anything is done to it."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from attnzoo.structure import OR_SHARED, PARTS, Part, part_of, parts_called_often
from attnzoo.surgery.edits import Edit, Mechanism
from attnzoo.surgery.operate import build_attention, operate
from attnzoo.surgery.picture import drawn
from attnzoo.surgery.recipe import Recipe
from attnzoo.surgery.wording import cut_short, described, table, why
from attnzoo.tracing import (
    Site,
    Skipped,
    Trace,
    count,
    own_draws,
    undisturbed,
)

__all__ = ["Plan", "PlannedSite", "carry_out"]


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
        half_blind: places where part of the block sees the same for every image.
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
    half_blind: tuple[Skipped, ...] = ()

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
            each = []
            for value in site.values:
                map_ = self.trace.values[value]
                shape = (site.channels, site.frames, map_.height, map_.width, site.axes)
                if shape not in costs:
                    at = replace(site, height=map_.height, width=map_.width)
                    costs[shape] = _cost(self.recipe, at)
                each.append(costs[shape])
            (parameters, *_), macs, made = zip(*each, strict=True)
            rows.append(PlannedSite(site, edit, parameters, sum(macs), sum(made)))
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
        asked = any(call.options.get("shared") for call in self.recipe.policies)
        besides = "" if asked else OR_SHARED
        found = [f"{path}: {why}{besides}" for path, why in itertools.islice(often.items(), 3)]
        if len(often) > 3:
            found.append(f"{len(often) - 3} more parts that run several times")
        if self.trace.stopped:
            found.append(cut_short(self.trace))
        return tuple(found)

    @property
    def assumed(self) -> tuple[str, ...]:
        """Where the forward pass asks for values of maps, and how it was followed there."""
        lines = self.trace.assumed
        found = [f"{line} asks for values; it got those of numbers from 0 to 1" for line in lines]
        return tuple(found[:3] + [f"and so on in {len(found) - 3} more lines"] * (len(found) > 3))

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
                    "calls": len(row.site.values),
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
            "half_blind": [{"path": s.path, "reason": s.reason} for s in self.half_blind],
            "unseen": list(self.unseen),
            "assumed": list(self.assumed),
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


@undisturbed
def carry_out(plan: Plan) -> nn.Module:
    """Apply a plan that was just made, so that all its trace tells of the model still holds.

    Raises:
        SurgeryError: the model does not behave as planned afterwards. It is then as it was before.
    """
    return plan._operate(just_traced=True)


def _cost(recipe: Recipe, site: Site) -> tuple[int, int, int]:
    """`(parameters, MACs, activation bytes)` of the attention at a site, per float32 image."""
    with own_draws():
        attention = build_attention(recipe, site, "meta")
    sizes = {"N": 1, "C": site.channels, "D": site.frames, "H": site.height, "W": site.width}
    x = torch.empty([sizes[axis] for axis in site.axes], device="meta")
    counted = count(attention, (x,), {})
    return sum(p.numel() for p in attention.parameters()), counted.macs, counted.activation_bytes
