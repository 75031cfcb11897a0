"""The exceptions: each ours and a builtin."""

from __future__ import annotations

import inspect
import pickle

import pytest

from attnzoo import errors
from attnzoo.errors import AttnzooError, OptionError, TraceError, UnknownNameError

ERRORS = [getattr(errors, name) for name in errors.__all__]


def test_all_lists_every_exception_of_the_module() -> None:
    defined = {n for n, c in vars(errors).items() if inspect.isclass(c)}
    assert defined == set(errors.__all__)
    assert list(errors.__all__) == sorted(errors.__all__)


@pytest.mark.parametrize("error", [e for e in ERRORS if e is not AttnzooError])
def test_each_error_is_ours_and_a_builtin(error: type[Exception]) -> None:
    assert issubclass(error, AttnzooError)
    builtins = [c for c in error.__mro__ if c.__module__ == "builtins"]
    assert set(builtins) - {Exception, BaseException, object}
    assert error.__doc__
    assert str(error("what was asked\nwhat is possible")) == "what was asked\nwhat is possible"


def test_what_a_trace_failed_by_stands_apart_from_the_advice() -> None:
    error = TraceError("it failed", "Pass example=…")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "it failed\nPass example=…"
    assert (again.found, again.advice) == ("it failed", "Pass example=…")
    assert str(TraceError("it failed")) == "it failed"


def test_option_errors_are_caught_as_type_and_as_value_errors() -> None:
    assert issubclass(OptionError, TypeError)
    assert issubclass(OptionError, ValueError)


def test_unknown_name_reads_as_text_although_it_is_a_key_error() -> None:
    assert issubclass(UnknownNameError, KeyError)
    assert str(UnknownNameError()) == ""
