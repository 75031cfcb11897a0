"""Exceptions. Each is an `AttnzooError` and a builtin, so both kinds of `except` work."""

from __future__ import annotations

__all__ = [
    "AttnzooError",
    "CheckpointError",
    "ContractError",
    "DataError",
    "MissingExtraError",
    "NoMapsError",
    "NoSitesError",
    "NotWrappedError",
    "OptionError",
    "SiteError",
    "StudyError",
    "SurgeryError",
    "TraceError",
    "UnknownNameError",
    "UnsupportedModelError",
]


class AttnzooError(Exception):
    """Base of every error attnzoo raises on purpose."""


class UnknownNameError(AttnzooError, KeyError):
    """A block, policy or backbone of that name does not exist."""

    def __str__(self) -> str:  # KeyError prints the repr of its argument, newlines escaped
        return str(self.args[0]) if self.args else ""


class OptionError(AttnzooError, TypeError, ValueError):
    """An option is unknown, of the wrong type or out of range."""


class NoSitesError(AttnzooError, ValueError):
    """A policy found no place in this model."""


class SiteError(AttnzooError, ValueError):
    """A place cannot take a block: shared, called twice, occupied, or of an unfit shape."""


class TraceError(AttnzooError, RuntimeError):
    """The forward pass of the model could not be followed.

    Attributes:
        found: what went wrong.
        advice: what to do about it from Python; elsewhere it is something else.
    """

    def __init__(self, found: str = "", advice: str = "") -> None:
        super().__init__(f"{found}\n{advice}" if advice else found)
        self.found, self.advice = found, advice

    def __reduce__(self) -> tuple[type[TraceError], tuple[str, str]]:
        return type(self), (self.found, self.advice)


class UnsupportedModelError(AttnzooError, TypeError):
    """The model is in a state that surgery would break in silence (compiled, under DDP, …)."""


class SurgeryError(AttnzooError, RuntimeError):
    """The model would not behave as planned after surgery, and was left as it was."""


class NotWrappedError(AttnzooError, ValueError):
    """The model holds no attention that attnzoo put in."""


class NoMapsError(AttnzooError, ValueError):
    """No block of the model returns an attention map."""


class CheckpointError(AttnzooError, ValueError):
    """A file of weights does not fit the model, or is not one attnzoo wrote."""


class ContractError(AttnzooError, AssertionError):
    """A block or a policy does not keep what it must; the message has every check that failed."""


class DataError(AttnzooError, ValueError):
    """A data set is missing, empty or inconsistent."""


class MissingExtraError(AttnzooError, ImportError):
    """A package that only some of attnzoo needs is not installed."""


class StudyError(AttnzooError, ValueError):
    """A study file is wrong; the message lists every fault in it."""
