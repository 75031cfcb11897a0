"""What every verb that looks at a model or changes it runs under."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from attnzoo.tracing.garbage import collection_paused
from attnzoo.tracing.interrupts import held

__all__ = ["undisturbed"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def undisturbed(verb: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A verb that is interrupted only where nothing is half done, and whose result can be trained.

    Signals wait, garbage collection too, inference mode is off (parameters made in it could never
    be trained), and in a function that `torch.compile` runs, Dynamo keeps out.
    """

    @functools.wraps(verb)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with held(), collection_paused(), torch.inference_mode(False):
            return verb(*args, **kwargs)

    @functools.wraps(verb)
    def outside_of_compilers(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        dynamo = sys.modules.get("torch._dynamo")  # who compiles has loaded it
        return run(*args, **kwargs) if dynamo is None else dynamo.disable(run)(*args, **kwargs)

    return outside_of_compilers
