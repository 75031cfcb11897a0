"""Backbones by name: torchvision's, timm's, or any function of yours. Nothing is downloaded."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import timm
import torchvision
from torch import nn

from attnzoo.checks import check_keywords, did_you_mean
from attnzoo.errors import OptionError, UnknownNameError

__all__ = ["create_backbone", "list_backbones"]

LIBRARIES = ("torchvision", "timm")
# timm hands its options on to constructors that nothing in create_model's signature names.
TIMM_OPTIONS = ("num_classes", "in_chans", "drop_rate", "drop_path_rate", "global_pool")
# Arguments of torchvision's constructors that its builders fill in themselves.
STRUCTURE = ("features", "block", "layers", "inverted_residual_setting", "block_setting")


def create_backbone(name: str, **options: Any) -> nn.Module:
    """Build a network by name, with fresh weights unless `options` ask for pretrained ones.

    Args:
        name: `"torchvision/vgg16"`, `"timm/resnet50"`, or `"package.module:function"` for a
            function of yours, which is imported and called.
        **options: go to the function that builds the network: `num_classes=10`,
            `weights="DEFAULT"` (torchvision), `pretrained=True` (timm), …

    Raises:
        UnknownNameError: no such network; the closest names are listed.
        OptionError: the network has no such option, or refuses its value.

    Example:
        >>> from attnzoo.backbones import create_backbone
        >>> model = create_backbone("torchvision/resnet18", num_classes=10)
        >>> model.fc.out_features
        10
    """
    library, slash, model = name.partition("/")
    if ":" in name and not slash:
        return _call(name, _import(name), options)
    if library == "torchvision" and model in torchvision.models.list_models():
        builder = torchvision.models.get_model_builder(model)
        if "weights_backbone" in inspect.signature(builder).parameters:
            # Detection and segmentation networks download these by default.
            options = {"weights_backbone": None, **options}
        return _call(name, builder, options)
    if library == "timm" and timm.is_model(model):
        return _call(name, timm.create_model, options, model)
    raise _unknown(name)


def list_backbones(pattern: str = "*") -> list[str]:
    """Names of torchvision's and timm's networks that match the wildcard `pattern`."""
    library, _, model = pattern.rpartition("/")
    names: list[str] = []
    if library in ("", "*", "torchvision"):
        names += [f"torchvision/{n}" for n in torchvision.models.list_models(include=model)]
    if library in ("", "*", "timm"):
        names += [f"timm/{n}" for n in timm.list_models(model)]
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


def _import(name: str) -> Callable[..., Any]:
    """The function that `package.module:function` names."""
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # the module is there; something that it imports is not
        raise UnknownNameError(
            f"backbone {name!r}: Python finds no module {error.name!r}. "
            f"Install it, or add its folder to PYTHONPATH."
        ) from None
    function = getattr(module, attribute, None)
    if not callable(function):
        functions = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise UnknownNameError(
            f"backbone {name!r}: module {module_name!r} has no function {attribute!r}."
            f"{did_you_mean(attribute, functions)}"
        )
    return function


def _call(name: str, builder: Callable[..., Any], options: dict[str, Any], *args: Any) -> nn.Module:
    owner = f"backbone {name!r}"
    parameters = _parameters(builder)
    if parameters and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        check_keywords(owner, options, list(parameters)[len(args) :])
    try:
        model = builder(*args, **options)
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
