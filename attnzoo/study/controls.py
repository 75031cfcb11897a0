"""Baselines and controls: what a study is given so that its differences mean something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from attnzoo.registry import BLOCKS
from attnzoo.train.spec import Variant, policy_title

__all__ = ["CONTROLS", "ControlName", "control_of", "with_baselines"]

ControlName = Literal["conv", "affine"]
"""The blocks that can stand in for attention."""

CONTROLS: tuple[ControlName, ...] = get_args(ControlName)


def with_baselines(
    variants: Sequence[Variant], controls: Sequence[ControlName] = CONTROLS
) -> list[Variant]:
    """The variants, with plain and the controls of each where they are not there already.

    A `conv` stands behind its attention block, an `affine` at the end, once for each policy.

    Example:
        >>> from attnzoo.train import Variant
        >>> [v.title for v in with_baselines([Variant(policy="auto", block="se")])]
        ['plain', 'auto + se', 'control: auto + conv like se', 'control: auto + affine']
    """
    taken = [_content(variant) for variant in variants]

    def missing(*wanted: Variant) -> list[Variant]:
        new = []
        for variant in wanted:
            if _content(variant) not in taken:
                taken.append(_content(variant))
                new.append(variant)
        return new

    complete = missing(Variant())
    for variant in variants:
        complete.append(variant)
        if "conv" in controls and _is_attention(variant):
            complete += missing(_conv_like(variant))
    if "affine" in controls:
        complete += missing(*(_affine_like(v) for v in variants if _is_attention(v)))
    return complete


def control_of(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    """The control that an attention variant is measured by: its `conv`, else its `affine`."""
    if not _is_attention(variant):
        return None
    for control in (_conv_like(variant), _affine_like(variant)):
        for other in variants:
            if _content(other) == _content(control):
                return other
    return None


def _is_attention(variant: Variant) -> bool:
    return variant.policy is not None and BLOCKS[variant.block].kind != "control"


def _conv_like(variant: Variant) -> Variant:
    options: dict[str, Any] = {"like": variant.block, "like_options": variant.options}
    if not variant.options:
        del options["like_options"]
    shown = "".join(f" {key}={value}" for key, value in variant.options.items())
    return _control(variant, "conv", f" like {variant.block}{shown}", options)


def _affine_like(variant: Variant) -> Variant:
    return _control(variant, "affine", "", {})


def _control(variant: Variant, block: ControlName, like: str, options: dict[str, Any]) -> Variant:
    start = "" if variant.start == "identity" else f" ({variant.start})"
    return Variant(
        name=f"control: {policy_title(variant.policy)} + {block}{like}{start}",
        policy=variant.policy,
        block=block,
        options=options,
        start=variant.start,
    )


def _content(variant: Variant) -> dict[str, object]:
    """Everything but the name; of plain, nothing else matters."""
    if variant.policy is None:
        return {}
    options = dict(variant.options)
    if variant.block == "conv":
        options = {"like": "local", **options}
        if not options.get("like_options"):
            options.pop("like_options", None)
    return {**variant.model_dump(exclude={"name"}), "options": options}
