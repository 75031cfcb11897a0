"""The flags that several commands share, and how their text becomes what the library takes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

__all__ = [
    "AS_IT_IS",
    "ATTENTION",
    "BY_DEFAULT",
    "NETWORK",
    "OUTPUT",
    "Attention",
    "Backbone",
    "BackboneOptions",
    "Json",
    "Network",
    "Strict",
    "UsageError",
    "given_path",
    "parse_options",
    "parse_size",
]

ATTENTION = Group("Attention", sort_key=2)
NETWORK = Group("Network", sort_key=1)
OUTPUT = Group("Output", sort_key=5)
ASSIGNMENT = "NAME=VALUE"

Backbone = Annotated[
    str,
    Parameter(
        metavar="BACKBONE",
        help="`torchvision/<name>`, `timm/<name>`, or `package.module:function` of your own.",
    ),
]
BackboneOptions = Annotated[
    tuple[str, ...],
    Parameter(
        metavar=ASSIGNMENT,
        help="An option of the function that builds the network, such as `num_classes=10`.",
        group=NETWORK,
        show_default=False,
    ),
]
Strict = Annotated[
    bool,
    Parameter(
        help="Refuse a network whose forward pass cannot be followed to its end, where attention "
        "goes in.",
        negative="",
        group=NETWORK,
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    Parameter(
        help="Print JSON, and nothing else, on stdout.",
        group=OUTPUT,
        show_default=False,
    ),
]

DIGITS = 6  # of a side: no image is larger
WORDS: dict[str, Any] = {"True": True, "False": False, "None": None}


class UsageError(Exception):
    """The command line is wrong in a way that its parser cannot see."""


def given_path(_: Any, tokens: Sequence[Any]) -> Path:
    """A path, which an empty text is not: it would stand for the current folder."""
    if not tokens[0].value:
        raise ValueError("An empty text is no path; write . for the current folder.")
    return Path(tokens[0].value)


@Parameter(name="*", group=ATTENTION)
@dataclass(frozen=True, kw_only=True)
class Attention:
    """What to put in, and where."""

    policy: Annotated[tuple[str, ...], Parameter(metavar="NAME", show_default=False)] = ()
    """Where attention goes; several times for several policies. By default `auto`, which looks at
    the architecture. `attnzoo policies` lists them."""
    policy_option: Annotated[
        tuple[str, ...], Parameter(metavar=ASSIGNMENT, show_default=False)
    ] = ()
    """An option or a filter of the policy, such as `stages=3,4`. May be given several times."""
    block: Annotated[str | None, Parameter(metavar="NAME")] = None
    """Which block, by default `local`. `attnzoo blocks` lists them."""
    option: Annotated[tuple[str, ...], Parameter(metavar=ASSIGNMENT, show_default=False)] = ()
    """An option of the block, such as `reduction=8`. May be given several times."""
    start: Literal["identity", "neutral", "paper"] | None = None
    """`identity` (the default): the network computes at first what it did before, by a γ that
    starts at zero. `neutral`: the same by gates that start at 1; `attnzoo blocks` shows which
    blocks can. `paper`: the block starts as its paper says."""

    @property
    def policies(self) -> Any:
        """As YAML has it: a name, `[name, options]`, or a list of these."""
        options = parse_options("--policy-option", self.policy_option)
        calls = [[name, options] if options else name for name in self.policy or ("auto",)]
        return calls if len(calls) > 1 else calls[0]

    @property
    def block_options(self) -> dict[str, Any]:
        """Options of the block."""
        return parse_options("--option", self.option)


@Parameter(name="*", group=NETWORK)
@dataclass(frozen=True, kw_only=True)
class Network:
    """How to build the network, and what to show it."""

    input_size: Annotated[
        tuple[str, ...], Parameter(metavar="SIZE", show_default=False, consume_multiple=(1, 3))
    ] = ()
    """Of one image: `224`, `3x224x224` or `3 224 224`. By default the network's own."""
    backbone_option: BackboneOptions = ()
    strict: Strict = False

    @property
    def example(self) -> tuple[int, int, int] | None:
        """`(C, H, W)`, or None for the network's own."""
        return parse_size(self.input_size) if self.input_size else None

    @property
    def options(self) -> dict[str, Any]:
        """Options of the backbone."""
        return parse_options("--backbone-option", self.backbone_option)


AS_IT_IS = Network()
BY_DEFAULT = Attention()


def parse_options(flag: str, assignments: Sequence[str]) -> dict[str, Any]:
    """`["reduction=8", "stages=3,4"]` → `{"reduction": 8, "stages": [3, 4]}`.

    Raises:
        UsageError: one is not of the form `NAME=VALUE`, or a name is there twice.
    """
    options: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not name.isidentifier() or not equals or not value:
            raise UsageError(f"{flag} {assignment}: write {ASSIGNMENT}, such as reduction=8.")
        if name in options:
            raise UsageError(
                f"{flag} {assignment}: {name} is given twice. A list has commas: {name}=3,4."
            )
        options[name] = _parse_value(value)
    return options


def parse_size(words: Sequence[str]) -> tuple[int, int, int]:
    """`["224"]`, `["3x224x224"]` or `["3", "224", "224"]` → `(3, 224, 224)`.

    Raises:
        UsageError: it is none of these.
    """
    given = " ".join(words)
    parts = re.split(r"[x×, ]+", given)
    right = all(part.isdecimal() and len(part) <= DIGITS and int(part) for part in parts)
    if len(parts) not in (1, 3) or not right:
        raise UsageError(
            f"--input-size {given}: write channels, height and width (3x224x224 or 3 224 224), or "
            f"the side of a square image (224). The backbone's name goes before the flags."
        )
    numbers = [int(part) for part in parts]
    return (
        (3, numbers[0], numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])
    )


def _parse_value(text: str) -> Any:
    """A number, a word of JSON or Python, a list where there are commas, else the text itself."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UsageError(f"{text[:40]}…: brackets are nested too deeply.") from error
    except ValueError:
        if "," in text:
            return [_parse_value(part) for part in text.split(",") if part]
        return WORDS.get(text, text)
