"""The drawing of a block's data flow, from lines of text.

A line is a lane: `SOURCE | step | *step => NAME SHAPE`. The source is `x`, or what another lane
gave, or several of them joined by ` × `, ` + ` or `, `. A star marks a step that has parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from attnzoo.surgery.svg import Drawing

JOINED = re.compile(r"( [×+] |, )")
LANE = 46
LEFT = 14.0
ARROW = 20.0
WIDEST = 900
LETTER, WIDE_LETTER, MARGIN = 7.0, 12.4, 14.0


@dataclass(frozen=True)
class Lane:
    """One line: what goes in, what is done, what comes out."""

    sources: tuple[str, ...]
    joints: tuple[str, ...]
    steps: tuple[tuple[str, bool], ...]
    result: str
    shape: str


def lanes(text: str) -> list[Lane]:
    """The lanes of a description.

    Raises:
        ValueError: a line is none, a lane takes what no lane before it gave, one gives what
            nobody takes, or the last does not give y.
    """
    found: list[Lane] = []
    for line in text.strip().splitlines():
        way, arrow, end = line.partition(" => ")
        if not arrow:
            raise ValueError(f"{line!r} does not say what it gives: end it with ` => NAME`.")
        first, *steps = way.split(" | ")
        if first.startswith("*"):
            raise ValueError(f"{line!r} begins with a step and not with what goes in.")
        joined = JOINED.split(first)
        result, _, shape = end.partition(" (")
        found.append(
            Lane(
                tuple(joined[::2]),
                tuple(joint.strip() for joint in joined[1::2]),
                tuple((step.lstrip("*"), step.startswith("*")) for step in steps),
                result,
                f"({shape}" if shape else "",
            )
        )
    _check(found)
    return found


def _check(found: list[Lane]) -> None:
    known, taken = {"x"}, {"y"}
    for lane in found:
        unknown = set(lane.sources) - known
        if unknown:
            raise ValueError(f"no lane before it gives {', '.join(sorted(unknown))}.")
        taken |= set(lane.sources)
        known |= {lane.result, *lane.result.split(", ")}
    if found[-1].result != "y":
        raise ValueError(f"the last lane gives {found[-1].result}, not y.")
    idle = [lane.result for lane in found if not taken & {lane.result, *lane.result.split(", ")}]
    if idle:
        raise ValueError(f"nothing takes {', '.join(idle)}.")


def described(found: list[Lane]) -> str:
    """The drawing in words, for those who do not see it."""
    said = []
    for lane in found:
        source = lane.sources[0]
        for joint, more in zip(lane.joints, lane.sources[1:], strict=True):
            source += f"{'' if joint == ',' else ' '}{joint} {more}"
        said.append(" → ".join([source, *(step for step, _ in lane.steps), lane.result]))
    return "; ".join(said)


def drawn(found: list[Lane], translate: Callable[[str], str], legend: tuple[str, str]) -> str:
    """The drawing as SVG.

    Raises:
        ValueError: a lane is wider than a page.
    """
    shapes = [_measured(lane, translate) for lane in found]
    width = max(shapes)
    if width > WIDEST:
        raise ValueError(f"a lane is {width:.0f} wide, more than {WIDEST}: use fewer words.")
    d = Drawing(WIDEST, LANE * len(found) + 40)
    for number, lane in enumerate(found):
        _draw(d, lane, 12 + LANE * number + 17, translate)
    bottom = 12 + LANE * len(found) + 6
    x = LEFT
    for kind, text in (("attention", legend[0]), ("map", legend[1])):
        d.box(x, bottom, 18, 12, "", "attention" if kind == "attention" else "map")
        d.text(x + 26, bottom + 10, text, "small soft", anchor="start")
        x += 56 + _width(text)
    return str(d)


def _width(text: str) -> float:
    """How wide a text is in a drawing; Chinese letters are twice as wide."""
    return sum(WIDE_LETTER if ord(letter) > 0x2E7F else LETTER for letter in text)


def _measured(lane: Lane, translate: Callable[[str], str]) -> float:
    chips = sum(_width(name) + 22 for name in lane.sources)
    joints = sum(14.0 if joint == "," else 34.0 for joint in lane.joints)
    steps = sum(_width(translate(step)) + MARGIN + ARROW for step, _ in lane.steps)
    end = ARROW + _width(lane.result) + 22 + _width(f"  {lane.shape}")
    return LEFT + chips + joints + steps + end


def _draw(d: Drawing, lane: Lane, middle: float, translate: Callable[[str], str]) -> None:
    x = LEFT
    for number, name in enumerate(lane.sources):
        if number:
            joint = lane.joints[number - 1]
            if joint == ",":
                x += 14
            else:
                d.plus(x + 17, middle, joint)
                x += 34
        x = _chip(d, x, middle, name)
    for step, learned in lane.steps:
        d.arrow((x, middle), (x + ARROW, middle))
        x += ARROW
        text = translate(step)
        wide = _width(text) + MARGIN
        kind = "attention" if learned else "map"
        d.box(x, middle - 17, wide, 34, text, kind, style="small")
        x += wide
    d.arrow((x, middle), (x + ARROW, middle))
    x = _chip(d, x + ARROW, middle, lane.result)
    if lane.shape:
        d.text(x + 6, middle + 4, lane.shape, "small soft", anchor="start")


def _chip(d: Drawing, x: float, middle: float, name: str) -> float:
    """A value by its name; returns where it ends."""
    wide = _width(name) + 22
    d.box(x, middle - 13, wide, 26, name, "plain", style="small bold")
    return x + wide
