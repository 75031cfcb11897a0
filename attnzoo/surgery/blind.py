"""Places where a block would see the same for every image."""

from __future__ import annotations

from dataclasses import replace

from attnzoo.errors import NoSitesError
from attnzoo.policies import Selection
from attnzoo.structure import after_activation, behind_instance_norm
from attnzoo.tracing import Site, Skipped, Trace

__all__ = ["where_channels_differ"]

_BLIND = (
    "an instance norm makes that map, so the mean of each channel is the same for every image, and "
    "attention to channels sees nothing; before the norm it would be undone"
)


_HALF_BLIND = (
    "an instance norm makes that map, so the part of the block that weights channels by their mean "
    "sees the same for every image; what it does by positions is not touched"
)


def where_channels_differ(
    trace: Trace, selection: Selection, block: str, *, in_part: bool = False
) -> tuple[Selection, tuple[Skipped, ...]]:
    """The selection without places where a channel's mean is the same for every image.

    Where an activation follows, the place is after it. What `match` names stays, and so does, of a
    block that does more than weight channels by their mean, what has no activation behind it.

    Args:
        trace: of the model.
        selection: the places of one policy.
        block: name of the block.
        in_part: whether the block does more.

    Returns:
        The selection, and the places that stay although part of the block is blind there.

    Raises:
        NoSitesError: no other places are left.
    """
    sites: list[Site] = []
    skipped: list[Skipped] = []
    half: list[Skipped] = []
    for site in selection.sites:
        if selection.policy.name == "match" or not behind_instance_norm(trace, site.value):
            sites.append(site)
        elif (bent := after_activation(trace, site.value)) is not None:
            sites.append(trace.after(bent))
        elif in_part:
            sites.append(site)
            half.append(Skipped(site.path, _HALF_BLIND))
        else:
            skipped.append(Skipped(site.path, _BLIND))
    if not sites:
        raise NoSitesError(
            f"policy {selection.asked!r} finds {len(skipped)} places in {trace.model}, and block "
            f"{block!r} would see nothing at any: {_BLIND}. At {skipped[0].path!r}, say. Take "
            f"policy 'post-residual' or 'stage-end', or a block that looks at positions."
        )
    kept = replace(selection, sites=tuple(sites), skipped=(*selection.skipped, *skipped))
    return kept, tuple(half)
