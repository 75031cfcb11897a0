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

__all__ = ["Source", "check_extent", "read_yaml"]

MERGE = "<<"
LARGEST = 1_000_000  # values of a study, each counted as often as aliases repeat it
DEEPEST = 100  # levels of mappings and lists
LEVEL = re.compile(r"\.|\[|\]\.?")


@dataclass(frozen=True)
class Source:
    """Where a study comes from, to tell where its faults are.

    Attributes:
        name: of the file.
        root: of what YAML found in it, with marks; None where it does not come from a file.
        faults: what YAML itself lets pass: keys that are there twice.
    """

    name: str
    root: yaml.Node | None = None
    faults: list[str] = field(default_factory=list)

    def locate(self, fault: str) -> str:
        """`seeds: must be …` → `study.yaml:12: seeds: must be …`, where the line is known."""
        line = _line(self.root, fault.partition(": ")[0])
        return f"{self.name}:{line}: {fault}" if line else fault


def _line(node: yaml.Node | None, place: str) -> int:
    """The line of a place such as `variants[2].options.reduction`, or of what it is in; 0: none."""
    line = 0
    for part in filter(None, LEVEL.split(place)):
        below = dict(_entries(node))
        if part not in below:
            break
        line, node = below[part]
    return line


def _entries(node: yaml.Node | None) -> Iterator[tuple[str, tuple[int, yaml.Node]]]:
    """`(key or index, (line, what is there))`."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != MERGE:
                yield key.value, (key.start_mark.line + 1, value)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield str(index), (item.start_mark.line + 1, item)


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
    except RecursionError as error:
        raise StudyError(f"{path}: lists and mappings are nested too deeply.") from error
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:  # also of what YAML builds
        raise StudyError(f"{path} cannot be read as YAML: {error}") from error
    return content, Source(str(path), root, list(_twice(root)))


def _twice(root: yaml.Node | None) -> Iterator[str]:
    """Keys that are there twice. What aliases repeat is looked at once."""
    seen: set[int] = set()
    left: list[tuple[str, yaml.Node | None]] = [("", root)]
    while left:
        place, node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        lines: dict[str, int] = {}
        below: list[tuple[str, yaml.Node | None]] = []
        for key, (line, inner) in _entries(node):
            listed = isinstance(node, yaml.SequenceNode)
            within = f"{place}[{key}]" if listed else f"{place}.{key}" if place else key
            if key in lines:
                yield (
                    f"{within}: this key is there twice, on lines {lines[key]} and {line}; one "
                    f"would be lost."
                )
            lines[key] = line
            below.append((within, inner))
        left += reversed(below)


def check_extent(content: Any, name: str) -> None:
    """Refuse what no study is, and a few aliases make: too much, too deep, or in a circle.

    Raises:
        StudyError: with the reason.
    """
    counted: dict[int, int] = {}

    def count(value: Any, depth: int) -> int:
        if depth > DEEPEST:
            raise StudyError(
                f"{name}: lists and mappings are nested more than {DEEPEST} deep, or in a circle."
            )
        if isinstance(value, dict):
            inner = list(value.values())
        elif isinstance(value, list | tuple | set):
            inner = list(value)
        else:
            return 1
        if id(value) not in counted:
            counted[id(value)] = 1 + sum(count(item, depth + 1) for item in inner)
        if counted[id(value)] > LARGEST:
            raise StudyError(
                f"{name}: with its aliases written out this is more than {LARGEST:,} values; no "
                f"study has so many."
            )
        return counted[id(value)]

    count(content, 0)
