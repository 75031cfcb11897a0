"""Baselines and controls: what a study is given so that its differences mean something."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, get_args

from attnzoo.registry import BLOCKS
from attnzoo.study.definition.variants import StudyVariant, train_text
from attnzoo.train import policy_title

__all__ = [
    "CONTROLS",
    "ControlName",
    "baselines_of",
    "controls_of",
    "is_control",
    "needed",
    "with_baselines",
]

ControlName = Literal["conv", "affine"]
"""The blocks that can stand in for attention."""

CONTROLS: tuple[ControlName, ...] = get_args(ControlName)

ATTENTION_ONLY = ("attention_lr_scale", "wrapped_lr_scale")
"""Training options that change nothing in a network without attention."""


def with_baselines(
    variants: Sequence[StudyVariant], controls: Sequence[ControlName] = CONTROLS
) -> list[StudyVariant]:
    """The variants, with plain and the controls of each where they are not there already.

    A `conv` stands behind its attention block, an `affine` at the end, once for each policy.
    Plain and controls are trained as the variants that they stand beside.

    Example:
        >>> from attnzoo.study.definition.variants import StudyVariant
        >>> [v.title for v in with_baselines([StudyVariant(policy="auto", block="se")])]
        ['plain', 'auto + se', 'control: auto + conv like se', 'control: auto + affine']
    """
    taken = {_content(variant) for variant in variants}

    def missing(*wanted: StudyVariant) -> list[StudyVariant]:
        new = []
        for variant in wanted:
            if (content := _content(variant)) not in taken:
                taken.add(content)
                new.append(variant)
        return new

    complete: list[StudyVariant] = []
    for variant in variants:
        if variant.policy is not None:
            complete += missing(_plain_like(variant))
        complete.append(variant)
        if "conv" in controls and _is_attention(variant):
            complete += missing(_conv_like(variant))
    if "affine" in controls:
        complete += missing(*(_affine_like(v) for v in variants if _is_attention(v)))
    return complete


def baselines_of(variants: Sequence[StudyVariant]) -> dict[str, str]:
    """Title of a variant → title of the plain network, trained in the same way, beside it."""
    known = _by_content(variants)
    pairs = ((v, known.get(_content(_plain_like(v)))) for v in variants if v.policy is not None)
    return {variant.title: plain.title for variant, plain in pairs if plain}


def controls_of(variants: Sequence[StudyVariant]) -> dict[str, str]:
    """Title of an attention variant → that of its control, the `conv`, else the `affine`."""
    known = _by_content(variants)
    pairs = (
        (v, known.get(_content(_conv_like(v))) or known.get(_content(_affine_like(v))))
        for v in variants
        if _is_attention(v)
    )
    return {variant.title: control.title for variant, control in pairs if control}


def needed(kept: Sequence[StudyVariant], variants: Sequence[StudyVariant]) -> list[StudyVariant]:
    """Of `kept`, some of a study's `variants`, those that are not left with nothing to compare.

    A control, or plain with training of its own, goes when all that it stands beside is gone.
    """

    def beside(some: Sequence[StudyVariant]) -> set[Hashable]:
        return {
            _content(other)
            for variant in some
            if variant.policy is not None
            for other in (
                _plain_like(variant),
                *((_conv_like(variant), _affine_like(variant)) if _is_attention(variant) else ()),
            )
        }

    asked, wanted = beside(variants), beside(kept) | {_content(StudyVariant())}
    return [v for v in kept if (content := _content(v)) not in asked or content in wanted]


def _by_content(variants: Sequence[StudyVariant]) -> dict[Hashable, StudyVariant]:
    return {_content(variant): variant for variant in reversed(variants)}  # the first counts


def is_control(variant: StudyVariant) -> bool:
    """Whether a variant puts in what is no attention."""
    return variant.policy is not None and BLOCKS[variant.block].kind == "control"


def _is_attention(variant: StudyVariant) -> bool:
    return variant.policy is not None and not is_control(variant)


def _plain_like(variant: StudyVariant) -> StudyVariant:
    train = {key: value for key, value in variant.train.items() if key not in ATTENTION_ONLY}
    return StudyVariant(train=train)


def _conv_like(variant: StudyVariant) -> StudyVariant:
    options: dict[str, Any] = {"like": variant.block, "like_options": variant.options}
    if not variant.options:
        del options["like_options"]
    shown = "".join(f" {key}={value}" for key, value in variant.options.items())
    return _control(variant, "conv", f" like {variant.block}{shown}", options)


def _affine_like(variant: StudyVariant) -> StudyVariant:
    return _control(variant, "affine", "", {})


def _control(
    variant: StudyVariant, block: ControlName, like: str, options: dict[str, Any]
) -> StudyVariant:
    start = "" if variant.start == "identity" else f" ({variant.start})"
    called = f"{policy_title(variant.policy)} + {block}{like}{start}{train_text(variant.train)}"
    return StudyVariant(
        name=f"control: {called}",
        policy=variant.policy,
        block=block,
        options=options,
        start=variant.start,
        train=variant.train,
    )


def _content(variant: StudyVariant) -> Hashable:
    """Everything but the name, to find variants by; of plain, nothing but its training matters.

    An affine block is the identity at first by itself, so there is one of either start.
    """
    if variant.policy is None:
        return _hashable({"train": variant.train})
    options = dict(variant.options)
    if variant.block == "conv":
        options = {"like": "local", **options}
        if not options.get("like_options"):
            options.pop("like_options", None)
    content = {**variant.model_dump(exclude={"name"}), "options": options}
    if variant.block == "affine":
        del content["start"]
    return _hashable(content)


def _hashable(value: Any) -> Hashable:
    if isinstance(value, Mapping):
        return frozenset((key, _hashable(inner)) for key, inner in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(map(_hashable, value))
    return value if isinstance(value, Hashable) else repr(value)
