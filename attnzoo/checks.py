"""Argument checks that name the argument, the value received and what is allowed; and wording."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attnzoo.errors import OptionError

__all__ = [
    "check_choice",
    "check_int",
    "check_keywords",
    "check_number",
    "check_writable",
    "closest",
    "counted",
    "did_you_mean",
    "keyword_options",
    "shortened",
]


def closest(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """The names in `known` nearest to `name`, best first."""
    return difflib.get_close_matches(name, list(known), n=limit, cutoff=0.5)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x' or 'y'?"`, or an empty string when nothing is near."""
    names = [repr(near) for near in closest(name, known)]
    return f" Did you mean {' or '.join(names)}?" if names else ""


def shortened(value: object) -> str:
    """`repr(value)`, cut to 80 characters; Python writes no integer of over 4,300 digits."""
    try:
        text = repr(value)
    except ValueError:
        return "(an integer of thousands of digits)"
    return text if len(text) <= 80 else f"{text[:79]}…"


def counted(number: int, noun: str, plural: str = "") -> str:
    """`"1 site"`, `"2,000 sites"`; `plural` where it is not the noun and an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def check_int(
    owner: str,
    option: str,
    value: object,
    *,
    minimum: int | None = None,
    maximum: int | None = None,
    odd: bool = False,
    alternative: str = "",
) -> int:
    """`value` if it is an int (not a bool) from `minimum` to `maximum`, and odd if `odd`.

    What is a size or a number of steps needs a maximum: it may come from a file.

    `alternative` is what else the caller would have taken; it only completes the message.

    Raises:
        OptionError: otherwise.
    """
    allowed = "an odd integer" if odd else "an integer"
    allowed += "" if minimum is None else f" of at least {minimum}"
    too_large = maximum is not None and isinstance(value, int) and value > maximum
    allowed += f" and at most {maximum}" if too_large else ""
    allowed += f", or {alternative}" if alternative else ""
    message = f"{owner}: {option}={shortened(value)} must be {allowed}."
    if isinstance(value, bool) or not isinstance(value, int):
        raise OptionError(message)
    too_small = minimum is not None and value < minimum
    if too_small or too_large or (odd and value % 2 == 0):
        raise OptionError(message)
    return value


def check_number(
    owner: str,
    option: str,
    value: object,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
) -> float:
    """`value` as a float within the closed range given.

    Raises:
        OptionError: if it is not a number, is NaN, or lies outside.
    """
    low = "-∞" if minimum is None else minimum
    high = "∞" if maximum is None else maximum
    message = f"{owner}: {option}={shortened(value)} must be a number in [{low}, {high}]."
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(message)
    try:
        number = float(value)
    except OverflowError:
        raise OptionError(message) from None
    inside = (minimum is None or number >= minimum) and (maximum is None or number <= maximum)
    if number != number or not inside:
        raise OptionError(message)
    return number


def check_writable(owner: str, options: Mapping[str, object]) -> None:
    """Refuse options that no message, table or file could show.

    Raises:
        OptionError: naming the option.
    """
    for option, value in options.items():
        try:
            repr(value)
        except (ValueError, RecursionError) as error:
            raise OptionError(f"{owner}: {option} is nothing that can be shown: {error}") from error


def check_choice(owner: str, option: str, value: Any, allowed: Iterable[Any]) -> Any:
    """`value` if it is one of `allowed`.

    Raises:
        OptionError: otherwise, naming the nearest allowed value.
    """
    choices = list(allowed)
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        hint = did_you_mean(shortened(value).strip("'"), [str(choice) for choice in choices])
        raise OptionError(f"{owner}: {option}={shortened(value)} is not one of {listed}.{hint}")
    return value


def keyword_options(function: Callable[..., Any]) -> dict[str, Any]:
    """What a caller may name, after the first parameter: name → default.

    `inspect.Parameter.empty` stands where there is no default.
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p.default for p in parameters if p.kind in kinds}


def check_keywords(owner: str, given: Mapping[str, object], known: Iterable[str]) -> None:
    """Refuse any key of `given` that is not in `known`.

    Raises:
        OptionError: naming each unknown key, the closest one, and all that exist.
    """
    options = list(known)
    unknown = [key for key in given if key not in options]
    if unknown:
        hints = "".join(did_you_mean(key, options) for key in unknown)
        listed = ", ".join(options) if options else "none"
        names = ", ".join(repr(key) for key in unknown)
        plural = "s" if len(unknown) > 1 else ""
        raise OptionError(f"{owner} has no option{plural} {names}.{hints} Its options: {listed}.")
