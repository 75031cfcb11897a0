"""What `blocks` and `policies` share: finding entries of a registry and explaining one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import docstring_parser
from rich.text import Text

from attnzoo.checks import did_you_mean
from attnzoo.cli.console import result_console, show_table
from attnzoo.errors import UnknownNameError

__all__ = [
    "describe",
    "find",
    "option_defaults",
    "option_text",
    "show_facts",
    "show_options",
    "show_text",
]

SECTION = re.compile(r"^(Args|Returns|Raises|Example|Examples|Attributes):$", re.MULTILINE)
WRAPPED = re.compile(r"\n(?!\w+: )")  # a line break, but not before "MACs: …"


def find(registry: Any, pattern: str) -> tuple[list[Any], bool]:
    """The entries that a name or a pattern names, and whether it was a name.

    Raises:
        UnknownNameError: there are none; the closest names are listed.
    """
    if pattern in registry:
        return [registry[pattern]], True
    names = registry.names(pattern)
    if not names:
        known = registry.names()
        raise UnknownNameError(
            f"no {registry.noun} matches {pattern!r}.{did_you_mean(pattern, known)} "
            f"There are: {', '.join(known)}."
        )
    return [registry[name] for name in names], False


def option_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """Option → default, None where it must be given: JSON has no other word for it."""
    return {k: None if v is inspect.Parameter.empty else v for k, v in options.items()}


def option_text(name: str, default: Any) -> str:
    """`reduction=16`, or the name alone where a value must be given."""
    return name if default is inspect.Parameter.empty else f"{name}={default}"


def describe(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """A docstring's text up to its first section, and what it says of each argument."""
    text = inspect.getdoc(function) or ""
    section = SECTION.search(text)
    parsed = docstring_parser.parse(text, docstring_parser.DocstringStyle.GOOGLE)
    arguments = {
        param.arg_name: " ".join((param.description or "").split()) for param in parsed.params
    }
    return text[: section.start() if section else None].strip(), arguments


def show_facts(facts: Mapping[str, str]) -> None:
    """A line for each fact that is known."""
    console = result_console()
    width = max(map(len, facts))
    for name, fact in facts.items():
        if fact:
            line = Text.assemble((f"{name:<{width}}  ", "dim"), fact)
            console.print(line, soft_wrap=True)


def show_text(text: str) -> None:
    """A docstring's text: paragraphs as wide as the terminal, formulas as they are."""
    console = result_console()
    for paragraph in text.split("\n\n"):
        is_formula = paragraph.startswith(" ")
        body = paragraph if is_formula else WRAPPED.sub(" ", paragraph)
        console.print()
        console.print(Text(body), soft_wrap=is_formula)


def show_options(title: str, options: Mapping[str, Any], explained: Mapping[str, str]) -> None:
    """A table of options with their defaults."""
    rows = [
        [
            name,
            "(required)" if default is inspect.Parameter.empty else str(default),
            explained.get(name, ""),
        ]
        for name, default in options.items()
    ]
    print()
    show_table(title, {"option": "left", "default": "left", "": "fold"}, rows)
