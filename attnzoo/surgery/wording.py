"""A plan as a table and in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from attnzoo.checks import counted
from attnzoo.errors import TraceError
from attnzoo.registry import POLICIES
from attnzoo.structure import PARTS
from attnzoo.tracing import Trace

if TYPE_CHECKING:
    from attnzoo.surgery.plan import Plan, PlannedSite

__all__ = ["cut_short", "described", "refuse_cut_short", "table", "why"]

_HEAD = ("site", "C", "H×W", "stage", "mechanism", "parameters", "MMACs", "MB")


def why(policy: str) -> str:
    """What a policy takes, as the first line of its docstring says it."""
    if policy == "match":
        return "named as asked"
    summary = POLICIES[policy].summary.rstrip(".")
    return summary[:1].lower() + summary[1:]


def cut_short(trace: Trace) -> str:
    """Where a forward pass ended that could not be followed to its end, and what it left out."""
    said = (
        f"values decide how the forward pass of {trace.model} goes on, and it was followed only up "
        f"to there: {trace.stopped}."
    )
    late = trace.never_run
    if late:
        layers = "1 layer" if len(late) == 1 else f"{len(late)} layers"
        said += f" {layers} would run later: {', '.join(late[:3])}{', …' * (len(late) > 3)}."
    return said


def refuse_cut_short(trace: Trace) -> None:
    """What `strict` asks for.

    Raises:
        TraceError: the forward pass could not be followed to its end.
    """
    if trace.stopped:
        raise TraceError(
            f"strict=True: {cut_short(trace)} Without strict=True, places are looked for up to "
            f"there."
        )


def table(plan: Plan) -> str:
    """The sites with their costs, by part where there are several, and what was left out."""
    body = [_cells(row) for row in plan.rows]
    total = (
        counted(len(plan.sites), "site"),
        *("",) * 4,
        f"{plan.parameters:,}",
        f"{plan.macs / 1e6:.2f}",
        f"{plan.activation_bytes / 1e6:.2f}",
    )
    widths = [max(len(row[i]) for row in (_HEAD, *body, total)) for i in range(len(_HEAD))]
    lines = [f"{plan.trace.model}: {plan.recipe}", _aligned(_HEAD, widths)]
    several = set(plan.parts) - {"trunk"}
    for part in PARTS:
        rows = [row for row, own in zip(body, plan.parts, strict=True) if own == part]
        if rows and several:
            lines.append(part)
        lines += [_aligned(row, widths) for row in rows]
    lines.append(_aligned(total, widths))
    return "\n".join(lines + _left_out(plan))


def _cells(row: PlannedSite) -> tuple[str, ...]:
    return (
        f"{row.site.where} {row.site.path or '(root)'}"
        + f", {len(row.site.values)} calls" * bool(row.site.further),
        str(row.site.channels),
        f"{row.site.height}×{row.site.width}",
        str(row.site.stage),
        row.mechanism,
        f"{row.parameters:,}",
        f"{row.macs / 1e6:.2f}",
        f"{row.activation_bytes / 1e6:.2f}",
    )


def _aligned(row: Iterable[str], widths: list[int]) -> str:
    first, *others = (
        cell.ljust(width) if i in (0, 4) else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join((first, *others)).rstrip()


def _left_out(plan: Plan) -> list[str]:
    lines = [f"left out: {place}" for place in plan.skipped]
    lines += [f"half blind: {place}" for place in plan.half_blind]
    lines += [f"not seen: {what}" for what in plan.unseen]
    return lines + [f"assumed: {what}" for what in plan.assumed]


def described(plan: Plan) -> str:
    """The places in words, by part and stage, and why each is one."""
    places = counted(len(plan.sites), "place")
    lines = [f"{plan.trace.model} has {places} for {plan.recipe.block}."]
    for asked, call in zip(plan.asked, plan.recipe.policies, strict=True):
        if asked != call.name:
            lines.append(f"{asked} comes to {call.name} here, by the structure of the network.")
    sites = list(zip(plan.rows, plan.parts, plan.named_by, strict=True))
    for part in PARTS:
        own = [(row.site, policy) for row, of, policy in sites if of == part]
        if own:
            lines.append(f"{part}:")
        for stage in sorted({site.stage for site, _ in own}):
            lines.append(f"  stage {stage}")
            lines += [
                f"    {site}: {why(policy)} ({policy})"
                for site, policy in own
                if site.stage == stage
            ]
    return "\n".join(lines + _left_out(plan))
