"""What all fuzzers share: a case at a time, each settled by a seed and its number, each bounded.

A fuzzer is a function `fuzz(seed, count, start=0)` that returns how many of the cases `start` to
`count` came out how. It is made from `case(draw, place)`, which does one: `draw` is a generator of
random choices, `place` an empty folder. A case returns an outcome, or raises.

right    what was asked for was done, as it should
refused  an error of attnzoo's, and everything as it was
raw      another exception
silent   done, but not what was asked for, without a word
hung     it took more than a minute
lost     something that was there before is gone or changed
"""

from __future__ import annotations

import random
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attnzoo.errors import AttnzooError

OUTCOMES = ("right", "refused", "raw", "silent", "hung", "lost")
GOOD = OUTCOMES[:2]
LIMIT = 60  # seconds of a case

Case = Callable[[random.Random, Path], str]
Found = dict[str, Any]


class HungError(BaseException):
    """A case takes too long; nobody's `except Exception` may take it for something else."""


def fuzzer(case: Case) -> Callable[..., Counter[str]]:
    """`fuzz(seed, count, start=0, tell=None)` of a case; `tell` is given what did not come out."""

    def fuzz(
        seed: int, count: int, start: int = 0, tell: Callable[[Found], None] | None = None
    ) -> Counter[str]:
        found: Counter[str] = Counter()
        for number in range(start, count):
            outcome, told = _one(case, seed, number)
            found[outcome] += 1
            if outcome not in GOOD and tell is not None:
                tell({"case": number, "outcome": outcome, "told": told})
        return found

    return fuzz


def _one(case: Case, seed: int, number: int) -> tuple[str, str]:
    def stop(*_: object) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(action="ignore"):
            return case(random.Random(f"{seed}:{number}"), Path(place)), ""
    except AttnzooError as error:
        return "refused", str(error)
    except HungError:
        return "hung", traceback.format_exc(limit=-4)
    except Exception:
        return "raw", traceback.format_exc(limit=-4)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 10**30, 1.5, -0.0, float("inf"), float("nan")),
    *("", " ", "x", "0", "..", "a/b", "a\nb", "$x^{", "<b>", "|", "é", "\u202e", "x" * 300),
    *([], [None], [[]], {}, {"x": 1}, {"": None}, {1: 2}, [0, 1], ["pre-pool", {}], b"\0"),
]


def changed(draw: random.Random, value: Any) -> Any:
    """A copy of plain content in which one thing, somewhere, is another."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.15:
        return draw.choice(ODD)
    inner = list(value) if isinstance(value, dict) else list(range(len(value)))
    where = draw.choice(inner)
    copy = dict(value) if isinstance(value, dict) else list(value)
    act = draw.random()
    if act < 0.1:
        del copy[where]
    elif act < 0.2 and isinstance(copy, dict):
        copy[draw.choice(["x", "", "policy", "name", "lr"])] = copy.pop(where)
    elif act < 0.2:
        copy.insert(where, draw.choice(ODD))
    else:
        copy[where] = changed(draw, copy[where])
    return copy


def damaged(draw: random.Random, content: bytes) -> bytes:
    """Bytes that a crash, a bad disk or somebody's editor made of others."""
    act = draw.randrange(6)
    at = draw.randrange(len(content) + 1)
    if act == 0:
        return b""
    if act == 1:
        return content[:at]
    if act == 2:
        return draw.randbytes(draw.randrange(1, 200))
    if act == 3:
        return content[:at] + draw.randbytes(draw.randrange(1, 9)) + content[at:]
    spots = bytearray(content)
    for _ in range(draw.randrange(1, 9)):
        if spots:
            spots[draw.randrange(len(spots))] = draw.randrange(256)
    return bytes(spots)
