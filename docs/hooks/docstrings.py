"""Griffe extension: examples under the name that griffe knows, and defaults of attributes."""

from __future__ import annotations

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Show the examples of docstrings as code, and what attributes are by default."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section before the docstring is parsed."""
        if isinstance(obj, griffe.Class) and obj.docstring:
            obj.docstring.value = with_defaults(obj.docstring.value, defaults_of(obj))
        if obj.docstring:
            renamed = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = renamed


def defaults_of(found: griffe.Class) -> dict[str, str]:
    """Attribute → its default as it is written, where it has one that says something."""
    values = {
        name: str(member.value)
        for name, member in found.members.items()
        if isinstance(member, griffe.Attribute) and member.value is not None
    }
    told = {}
    for name, value in values.items():
        field = re.fullmatch(r"Field\((?!\w+=)(\([^)]*\)|[^,)]*).*\)", value, re.DOTALL)
        if field is not None:
            told[name] = field[1]
        elif not value.startswith("Field("):
            told[name] = value
    return {name: value for name, value in told.items() if value not in ("''", '""')}


def with_defaults(text: str, defaults: dict[str, str]) -> str:
    """A docstring whose section of attributes ends each entry with the default."""
    head, section, rest = text.partition("\nAttributes:\n")
    entries, blank, after = rest.partition("\n\n")
    parts = re.split(r"\n(?=    \w)", entries)
    told = []
    for part in parts:
        names = re.match(r"\s*([\w, ]+):", part)
        own = [name for name in (names[1].split(", ") if names else []) if name in defaults]
        values = dict.fromkeys(defaults[name] for name in own)
        said = f" By default {', '.join(f'`{value}`' for value in values)}." if own else ""
        told.append(part + said)
    return head + section + "\n".join(told) + blank + after
