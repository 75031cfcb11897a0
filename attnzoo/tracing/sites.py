"""A place on a feature map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Site", "Skipped", "Where"]

Where = Literal["before", "after", "replace"]


@dataclass(frozen=True, slots=True)
class Site:
    """A place on a feature map where a block can go.

    Attributes:
        path: path of the module the place is named after.
        where: `after`: on what that module returns; `before`: on what it is given, for that
            module alone; `replace`: in its place.
        channels, height, width: of the feature map, at the input size that was traced.
        stage: its resolution level, counted from 1 at the finest.
        axes: the order in which the network holds this map: `"NCHW"`, `"NHWC"`, or `"NCDHW"` for
            those of D frames of a video, each of which is attended by itself.
        frames: D.
        call, value: where in the trace it is (not part of its identity).
    """

    path: str
    where: Where
    channels: int
    height: int
    width: int
    stage: int
    axes: str = "NCHW"
    frames: int = 1
    call: int = field(default=-1, compare=False, repr=False)
    value: int = field(default=-1, compare=False, repr=False)

    def __str__(self) -> str:
        return (
            f"{self.where} {self.path or 'the root'} ({self.channels}×{self.height}×{self.width})"
        )


@dataclass(frozen=True, slots=True)
class Skipped:
    """A place that a policy looked at and could not use, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path or 'the root'}: {self.reason}"
