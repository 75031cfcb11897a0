"""Recipe: the JSON-able answer to "what was done to this model". It travels with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from attnzoo.checks import check_choice
from attnzoo.errors import OptionError
from attnzoo.hosts import Start
from attnzoo.policies import PolicyCall, PolicyLike, parse_policies
from attnzoo.registry import BLOCKS
from attnzoo.tracing import example_told

__all__ = ["Recipe", "parse_recipe", "sharing"]

#: Of what `to_dict` gives. Those of format 1 do not name it, and were made when the hidden layers
#: of blocks had no floor.
_FORMAT = 2

#: What is put in is called that where nobody says otherwise.
DEFAULT_NAME = "attention"


@dataclass(frozen=True)
class Recipe:
    """What was asked for: policies, block, options, start. It travels with the weights as JSON.

    Attributes:
        policies: the policy calls, `auto` resolved.
        block: name of the block.
        options: its options.
        start: `"identity"`, `"neutral"` or `"paper"`.
        input_size: what was traced, `(C, H, W)`, or `(1, C, D, H, W)` for a video; None for other
            arguments than one batch.
        arguments: what was traced, as `attnzoo.tracing.tell_arguments` tells it, where that is
            more than one batch of one image: several arguments, a dtype of their own, a larger
            batch, signals.
        name: of what is put in, by which `switch` and `unwrap` know it.
    """

    policies: tuple[PolicyCall, ...]
    block: str
    options: Mapping[str, Any] = field(default_factory=dict)
    start: Start = "identity"
    input_size: tuple[int, ...] | None = None
    arguments: Mapping[str, Any] | None = None
    name: str = DEFAULT_NAME

    @property
    def example(self) -> Any:
        """What to trace with, as it was traced; None for the network's own default."""
        return self.input_size if self.arguments is None else example_told(self.arguments)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        plain = {
            "format": _FORMAT,
            "policy": [[call.name, _plain(call.options)] for call in self.policies],
            "block": self.block,
            "options": _plain(self.options),
            "start": self.start,
            "input_size": None if self.input_size is None else list(self.input_size),
        }
        if self.arguments is not None:
            plain["arguments"] = self.arguments
        if self.name != DEFAULT_NAME:
            plain["name"] = self.name
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_dict`, also of what an older version wrote."""
        size = data.get("input_size")
        block, options = data["block"], dict(data["options"])
        if data.get("format", 1) < _FORMAT and block in BLOCKS:
            options = {**BLOCKS[block].former, **options}
        return cls(
            policies=parse_policies([tuple(pair) for pair in data["policy"]]),
            block=block,
            options=options,
            start=data["start"],
            input_size=None if size is None else tuple(size),
            arguments=data.get("arguments"),
            name=data.get("name", DEFAULT_NAME),
        )

    def __str__(self) -> str:
        options = "".join(f", {key}={value!r}" for key, value in self.options.items())
        policies = " + ".join(map(str, self.policies))
        return f"{policies} × {self.block}{options} (start={self.start})"


def parse_recipe(
    policy: PolicyLike | Recipe,
    block: str,
    start: str,
    options: Mapping[str, Any],
    name: str | None = None,
) -> Recipe:
    """The arguments of `attnzoo.wrap`, checked, as a recipe whose policies are not yet resolved.

    Raises:
        UnknownNameError: no such policy or block.
        OptionError: an option, `start` or `name` is wrong.
    """
    if name is not None and (not isinstance(name, str) or not name):
        raise OptionError(f"wrap: name={name!r} must be a text of at least one character.")
    if isinstance(policy, Recipe):
        if options:
            raise OptionError(
                f"wrap: a Recipe brings its own block options; {', '.join(options)} would be "
                f"ignored. Make another one by dataclasses.replace(recipe, options=…)."
            )
        name = name or policy.name
        policies, block, start, options = (
            policy.policies,
            policy.block,
            policy.start,
            policy.options,
        )
    else:
        policies = parse_policies(policy)
    checked: Start = check_choice("wrap", "start", start, get_args(Start))
    spec = BLOCKS[block]
    spec.check_options(options)
    if checked == "neutral" and not spec.neutral:
        why = spec.limits.get("neutral", "it does not say how (`neutral=` of register_block).")
        raise OptionError(
            f'wrap: block {block!r} has no start="neutral": {why} Take start="identity", which '
            f"lets any block in by a γ that starts at zero."
        )
    return Recipe(tuple(policies), block, dict(options), checked, name=name or DEFAULT_NAME)


def sharing(recipe: Recipe) -> Recipe:
    """The recipe with blocks that act at all calls of a module that runs several times."""
    calls = (PolicyCall(call.name, {**call.options, "shared": True}) for call in recipe.policies)
    return replace(recipe, policies=tuple(calls))


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple | set | range) else value
        for key, value in options.items()
    }
