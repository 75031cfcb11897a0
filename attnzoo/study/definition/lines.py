"""YAML with line numbers: its content, and the line that each of its keys is on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from attnzoo.checks import did_you_mean
from attnzoo.errors import StudyError

__all__ = ["Source", "read_yaml"]

LAST_PART = re.compile(r"(\.[^.\[]*|\[\d+\]|^[^.\[]+)$")
MERGE = "<<"


@dataclass(frozen=True)
class Source:
    """Where a study comes from, to tell where its faults are.

    Attributes:
        name: of the file.
        lines: place, such as `variants[2].options.reduction`, → line number from 1.
        faults: what YAML itself lets pass: keys that are there twice.
    """

    name: str
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def locate(self, fault: str) -> str:
        """`seeds: must be …` → `study.yaml:12: seeds: must be …`, where the line is known."""
        place = fault.partition(": ")[0]
        while place and place not in self.lines:
            place = LAST_PART.sub("", place)
        return f"{self.name}:{self.lines[place]}: {fault}" if place else fault


def read_yaml(path: Path) -> tuple[Any, Source]:
    """The content of a YAML file, and where in the file it is.

    Raises:
        StudyError: there is no such file, or it is no YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        near = [entry.name for entry in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise StudyError(f"no study file {str(path)!r}.{did_you_mean(path.name, near)}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        told = ", ".join(part for part in (error.context, error.problem) if part)
        raise StudyError(f"{path}{line}: this is no YAML: {told}.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StudyError(f"{path} cannot be read as YAML: {error}") from error
    source = Source(str(path))
    for place, line in _places(root, ""):
        if place in source.lines:
            first = source.lines[place]
            source.faults.append(
                f"{place}: this key is there twice, on lines {first} and {line}; one would be lost."
            )
        source.lines[place] = line
    return content, source


def _places(
    node: yaml.Node | None, place: str, inside: tuple[yaml.Node, ...] = ()
) -> Iterator[tuple[str, int]]:
    """`(place, line)` of everything in `node`; aliases are followed, but never in a circle."""
    if node is None or node in inside:
        return
    inside = (*inside, node)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != MERGE:
                below = f"{place}.{key.value}" if place else key.value
                yield below, key.start_mark.line + 1
                yield from _places(value, below, inside)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield f"{place}[{index}]", item.start_mark.line + 1
            yield from _places(item, f"{place}[{index}]", inside)
