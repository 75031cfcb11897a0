"""Checks of arguments: what they take, and what their refusals say."""

from __future__ import annotations

import pytest

from attnzoo.checks import (
    check_choice,
    check_int,
    check_keywords,
    check_number,
    closest,
    counted,
    did_you_mean,
    keyword_options,
)
from attnzoo.errors import OptionError


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_check_int_takes_only_integers(value: object) -> None:
    with pytest.raises(OptionError) as caught:
        check_int("block 'x'", "width", value)
    assert str(caught.value) == f"block 'x': width={value!r} must be an integer."


def test_one_is_singular() -> None:
    told = [counted(0, "run"), counted(1, "run"), counted(2000, "class", "classes")]
    assert told == ["0 runs", "1 run", "2,000 classes"]


def test_check_int_bounds_and_parity() -> None:
    assert check_int("x", "k", -4) == -4
    assert check_int("x", "k", 2, minimum=2) == 2
    assert check_int("x", "k", 3, minimum=1, odd=True) == 3
    with pytest.raises(OptionError, match=r"^x: k=1 must be an integer of at least 2\.$"):
        check_int("x", "k", 1, minimum=2)
    with pytest.raises(OptionError, match=r"k=4 must be an odd integer of at least 1, or 'auto'"):
        check_int("x", "k", 4, minimum=1, odd=True, alternative="'auto'")


def test_check_number_takes_the_closed_range() -> None:
    assert check_number("x", "p", 0, minimum=0, maximum=1) == 0.0
    assert isinstance(check_number("x", "p", 1, minimum=0, maximum=1), float)
    assert check_number("x", "p", -1e9) == -1e9


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), True, "0.5", None])
def test_check_number_refuses(value: object) -> None:
    with pytest.raises(OptionError) as caught:
        check_number("x", "p", value, minimum=0, maximum=1)
    assert str(caught.value) == f"x: p={value!r} must be a number in [0, 1]."


def test_check_number_says_where_the_range_is_open_ended() -> None:
    with pytest.raises(OptionError, match=r"p=-1 must be a number in \[0, ∞\]"):
        check_number("x", "p", -1, minimum=0)
    with pytest.raises(OptionError, match=r"p=2 must be a number in \[-∞, 1\]"):
        check_number("x", "p", 2, maximum=1)


def test_check_choice_names_the_nearest() -> None:
    assert check_choice("x", "where", "after", ("before", "after")) == "after"
    with pytest.raises(OptionError) as caught:
        check_choice("x", "where", "aftr", ("before", "after"))
    message = "x: where='aftr' is not one of 'before', 'after'. Did you mean 'after'?"
    assert str(caught.value) == message


def test_check_keywords_names_each_unknown_one_and_all_that_exist() -> None:
    check_keywords("x", {"reduction": 1}, ["reduction", "kernel_size"])
    with pytest.raises(OptionError) as caught:
        check_keywords("x", {"reducton": 1, "reduction": 2, "zz": 3}, ["reduction", "bias"])
    assert str(caught.value) == (
        "x has no options 'reducton', 'zz'. Did you mean 'reduction'? Its options: reduction, bias."
    )
    with pytest.raises(OptionError, match=r"x has no option 'a'\. Its options: none\."):
        check_keywords("x", {"a": 1}, [])


def test_closest_is_best_first_and_silent_when_nothing_is_near() -> None:
    assert closest("cban", ["local", "cbam", "bam"])[0] == "cbam"
    assert did_you_mean("cban", ["cbam", "bam"]) == " Did you mean 'cbam' or 'bam'?"
    assert did_you_mean("xyz", ["local", "cbam"]) == ""


def test_keyword_options_are_what_a_caller_can_name() -> None:
    def factory(channels, reduction=16, *rest, bias=True, **more):
        pass

    assert keyword_options(factory) == {"reduction": 16, "bias": True}
