"""One part of a contract, and what an attempt at it comes to: a row, whatever is raised."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from attnzoo.checks import check_choice
from attnzoo.errors import OptionError
from attnzoo.registry import Limit
from attnzoo.testing.report import Row

__all__ = ["BreachError", "Check", "NotRunError", "attempt", "choose", "explain", "same_bits"]

Subject = TypeVar("Subject")

#: Characters of a row's detail.
_LONGEST = 600


class BreachError(Exception):
    """The contract is not kept; `excusable` tells whether a limit may say so beforehand."""

    def __init__(self, detail: str, *, excusable: bool = True) -> None:
        super().__init__(detail)
        self.excusable = excusable


class NotRunError(Exception):
    """A check has nothing to look at, or lacks what it needs."""


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One part of a contract.

    Attributes:
        name: of the row.
        run: raises if the subject does not keep it; may return something worth saying.
        limits: those that excuse it.
    """

    name: str
    run: Callable[[Subject], str | None]
    limits: tuple[Limit, ...] = ()

    @property
    def summary(self) -> str:
        """What it asks for, in a sentence."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


def choose(owner: str, known: Mapping[str, Check], asked: Iterable[str] | None) -> list[Check]:
    """The checks of these names, in the order of the contract; all of them for None.

    Raises:
        OptionError: there is no such check, or none is asked for.
    """
    if asked is None:
        return list(known.values())
    names = [asked] if isinstance(asked, str) else list(asked)
    for name in names:
        check_choice(owner, "checks", name, known)
    if not names:
        raise OptionError(f"{owner}: checks={asked!r} names none. There are: {', '.join(known)}.")
    return [check for name, check in known.items() if name in names]


def attempt(check: Check[Subject], subject: Subject, limits: Mapping[Limit, str]) -> Row:
    """Run a check, always from the same random state, which is afterwards as it was.

    Args:
        check: what to run.
        subject: what it looks at.
        limits: those of the subject that apply, and why.
    """
    begin = time.perf_counter()
    reasons = [limits[limit] for limit in check.limits if limit in limits]

    def row(outcome, detail) -> Row:
        return Row(check.name, outcome, _shortened(detail), time.perf_counter() - begin)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            return row("passed", check.run(subject) or "")
        except NotRunError as error:
            return row("not run", str(error))
        except Exception as error:
            excusable = getattr(error, "excusable", True)
            if reasons and excusable:
                return row("exempt", f"{' '.join(reasons)} Seen: {explain(error)}")
            return row("failed", explain(error))


def explain(error: Exception) -> str:
    """An error in one line, with its class where that says something."""
    text = " ".join(str(error).split())
    plain = isinstance(error, BreachError | AssertionError) and text
    return _shortened(text if plain else f"{type(error).__name__}: {text or 'no message'}")


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors agree in dtype, shape and every bit: −0 is not 0, NaN is itself."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    pair = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(*pair)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
