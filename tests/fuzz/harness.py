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

import copy
import random
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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

    # Verbs let alarms wait while they run, and not the signal of the time that a process computes.
    before = [(number, signal.signal(number, stop)) for number in (signal.SIGALRM, signal.SIGPROF)]
    signal.alarm(LIMIT)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
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
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in before:
            signal.signal(number, handler)


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


def nudged(draw: random.Random, content: Any, words: Sequence[str] = ()) -> Any:
    """A copy of plain content in which one or two things are others of the same kind.

    Most of what comes out could have been written by somebody, so it is looked at to the end.
    `words` are texts that may stand for others, besides those of the content.
    """
    content = copy.deepcopy(content)
    texts = [*words, *(value for *_, value in _places(content) if isinstance(value, str))]
    for _ in range(draw.randrange(1, 3)):
        places = list(_places(content))
        if places:
            holder, where, value = draw.choice(places)
            holder[where] = _other(draw, value, texts)
            if draw.random() < 0.1:
                del holder[where]
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Every `(container, key, value)` in plain content."""
    keys = content if isinstance(content, dict) else range(len(content))
    for key in list(keys):
        yield content, key, content[key]
        if isinstance(content[key], dict | list):
            yield from _places(content[key])


def _other(draw: random.Random, value: Any, texts: Sequence[str]) -> Any:
    """Something of the same kind as a value."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw.choice([value + 1, value - 1, value * 2, value // 2, 0, 1, 3])
    if isinstance(value, float):
        return draw.choice([value * 2, value / 3, -value, 0.0, 1.0])
    if isinstance(value, str) and draw.random() < 0.7 and texts:
        return draw.choice(texts)
    if isinstance(value, str) and value:
        at = draw.randrange(len(value))
        return value[:at] + draw.choice(["", "x", "_", value[at] * 2]) + value[at + 1 :]
    if isinstance(value, list) and value:
        item = draw.choice(value)
        return draw.choice([[*value, item], [x for x in value if x is not item], value[::-1]])
    if isinstance(value, dict) and len(value) > 1:
        one, two = draw.sample(list(value), 2)
        return {**value, one: value[two], two: value[one]}
    return draw.choice([None, 1, "x", [value], {"x": value}])


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
