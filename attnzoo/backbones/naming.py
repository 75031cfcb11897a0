"""Backbones by name: torchvision's, timm's, or any function of yours."""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import timm
import torchvision
from torch import nn

from attnzoo.backbones.packaged import PACKAGED
from attnzoo.checks import check_keywords, did_you_mean
from attnzoo.errors import OptionError, UnknownNameError

__all__ = ["Named", "find_backbone", "find_function", "list_backbones"]

LIBRARIES = ("torchvision", "timm", "pretrained")
# timm hands its options on to constructors that nothing in create_model's signature names.
TIMM_OPTIONS = ("num_classes", "in_chans", "drop_rate", "drop_path_rate", "global_pool")
# Arguments of torchvision's constructors that its builders fill in themselves.
STRUCTURE = ("features", "block", "layers", "inverted_residual_setting", "block_setting")


@dataclass(frozen=True)
class Named:
    """What a backbone's name stands for.

    Attributes:
        name: as it was given.
        library: `"torchvision"`, `"timm"`, `"pretrained"`, or `"own"` for a function of yours.
        model: what the library calls it; of a function, its name.
        builder: builds it.
        arguments: what `builder` is given first.
    """

    name: str
    library: Literal["torchvision", "timm", "pretrained", "own"]
    model: str
    builder: Callable[..., Any]
    arguments: tuple[str, ...] = ()

    def build(self, options: Mapping[str, Any]) -> nn.Module:
        """The network that `options` ask for.

        Raises:
            OptionError: it has no such option, or refuses its value.
        """
        return _call(self, dict(options))

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """Of the function that builds it."""
        return _parameters(self.builder)


def find_backbone(name: str) -> Named:
    """What the name stands for. A module of yours is imported, nothing is built.

    Raises:
        UnknownNameError: no such network; the closest names are listed.
    """
    library, slash, model = name.partition("/")
    if ":" in name and not slash:
        return Named(name, "own", name.partition(":")[2], find_function(name, f"backbone {name!r}"))
    if library == "torchvision" and model in torchvision.models.list_models():
        return Named(name, "torchvision", model, torchvision.models.get_model_builder(model))
    if library == "timm" and timm.is_model(model):
        return Named(name, "timm", model, timm.create_model, (model,))
    if library == "pretrained" and model in PACKAGED:
        return Named(name, "pretrained", model, timm.create_model, (PACKAGED[model].network,))
    raise _unknown(name)


def list_backbones(pattern: str = "*") -> list[str]:
    """Names of networks that match a wildcard: torchvision's, timm's, those that packages bring."""
    library, _, model = pattern.rpartition("/")
    names: list[str] = []
    if library in ("", "*", "torchvision"):
        names += [f"torchvision/{n}" for n in torchvision.models.list_models(include=model)]
    if library in ("", "*", "timm"):
        names += [f"timm/{n}" for n in timm.list_models(model)]
    if library in ("", "*", "pretrained"):
        names += [f"pretrained/{n}" for n in fnmatch.filter(PACKAGED, model or "*")]
    return names


def _unknown(name: str) -> UnknownNameError:
    library, slash, _ = name.partition("/")
    if not slash:
        bare = list_backbones(name)
        if bare:
            return UnknownNameError(
                f"no backbone is called {name!r}; say whose it is: {' or '.join(map(repr, bare))}."
            )
    if slash and library not in LIBRARIES:
        return UnknownNameError(
            f"backbone {name!r}: no library {library!r}.{did_you_mean(library, LIBRARIES)} "
            f"Write 'torchvision/…', 'timm/…' or 'package.module:function'."
        )
    known = list_backbones(f"{library}/*") if slash else list_backbones()
    return UnknownNameError(
        f"no backbone is called {name!r}.{did_you_mean(name, known)} "
        f"Write 'torchvision/…', 'timm/…' or 'package.module:function'."
    )


def find_function(name: str, owner: str) -> Callable[..., Any]:
    """The function that `package.module:function` names.

    Raises:
        UnknownNameError: there is no such module, or no such function in it.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # the module is there; something that it imports is not
        raise UnknownNameError(
            f"{owner}: Python finds no module {error.name!r}. "
            f"Install it, or add its folder to PYTHONPATH."
        ) from None
    function = getattr(module, attribute, None)
    if not callable(function):
        functions = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise UnknownNameError(
            f"{owner}: module {module_name!r} has no function {attribute!r}."
            f"{did_you_mean(attribute, functions)}"
        )
    return function


def _call(named: Named, options: dict[str, Any]) -> nn.Module:
    owner, builder = f"backbone {named.name!r}", named.builder
    parameters = named.parameters
    if "weights_backbone" in parameters and named.library == "torchvision":
        # Detection and segmentation networks download these by default.
        options = {"weights_backbone": None, **options}
    if parameters and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        check_keywords(owner, options, list(parameters)[len(named.arguments) :])
    try:
        model = builder(*named.arguments, **options)
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is not None and unknown[1] in options:
            known = _constructor_options(parameters, builder)
            raise OptionError(
                f"{owner} has no option {unknown[1]!r}.{did_you_mean(unknown[1], known)}"
                + (f" It has, among others: {', '.join(known)}." if known else "")
            ) from error
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise OptionError(f"{owner} refuses ({given}): {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise OptionError(f"{owner} returned a {type(model).__name__}, not an nn.Module.")
    return model


def _parameters(builder: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(builder).parameters)
    except ValueError:  # some builtins have none
        return {}


def _constructor_options(
    parameters: dict[str, inspect.Parameter], builder: Callable[..., Any]
) -> list[str]:
    """Options of a builder, those it hands on to the class that it says it returns included."""
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    options = [p.name for p in parameters.values() if p.kind in named]
    if builder is timm.create_model:
        return [*TIMM_OPTIONS, *(n for n in options if n != "model_name")]
    returned = inspect.get_annotations(builder, eval_str=True).get("return")
    if inspect.isclass(returned) and issubclass(returned, nn.Module):
        options += [n for n in inspect.signature(returned).parameters if n not in STRUCTURE]
    return list(dict.fromkeys(n for n in options if n not in ("args", "kwargs")))
