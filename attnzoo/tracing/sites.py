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
        further: the values at the further calls of the module, where one block acts at all.
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
    further: tuple[int, ...] = field(default=(), compare=False, repr=False)

    @property
    def values(self) -> tuple[int, ...]:
        """Where in the trace attention there acts, in order."""
        return self.value, *self.further

    def __str__(self) -> str:
        calls = f" at {len(self.values)} calls" if self.further else ""
        size = f"{self.channels}×{self.height}×{self.width}"
        return f"{self.where} {self.path or 'the root'} ({size}){calls}"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A place that a policy looked at and could not use, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path or 'the root'}: {self.reason}"
