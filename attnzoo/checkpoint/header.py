"""The header of a file of weights: what was done to the model, as plain JSON, checked when read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from attnzoo.backbones import NetworkRecipe
from attnzoo.checks import check_choice
from attnzoo.errors import AttnzooError, CheckpointError
from attnzoo.hosts import Start
from attnzoo.surgery import Operation, Recipe
from attnzoo.tracing import example_told

__all__ = ["Header", "What", "read_header", "sites_of", "unique_keys", "write_header"]

What = Literal["attention", "trained", "all"]

FORMAT = "1"
KEYS = ("attnzoo", "what", "model", "operations")
EXTRA = "extra_state"
"""Key of the header for what `get_extra_state` of modules returned; only where some did."""

NETWORK = "network"
"""Key of the header for how the plain network is built; only where that was told."""

BACKBONE = "backbone"
"""Key of the header for checksums of the backbone, where the file does not hold it."""

LARGEST = 2**31 - 1  # of one side of an input


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        model: class name of the model that was saved.
        what: `"attention"`, `"trained"` or `"all"`.
        recipes: `(path of the wrapped module, recipe, its sites)`, in the order of wrapping.
        extra: key → what a module's `get_extra_state` returned, plain JSON.
        network: how the plain network is built, or None.
        backbone: plain key → dtype and checksum of the backbone's tensors, as far as was told.
    """

    model: str
    what: What
    recipes: tuple[tuple[str, Recipe, tuple[str, ...]], ...]
    extra: dict[str, Any]
    network: NetworkRecipe | None = None
    backbone: dict[str, str] = field(default_factory=dict)


def sites_of(operation: Operation) -> list[str]:
    """`"before features.4 64"`: side, path and channels of each place."""
    return [f"{site.where} {site.path} {site.channels}" for site in operation.sites]


def write_header(
    model: str,
    what: What,
    done: Iterable[tuple[str, Operation]],
    extra: Mapping[str, Any],
    network: Mapping[str, Any] | None = None,
    backbone: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """As safetensors keeps it: texts by name.

    Raises:
        CheckpointError: an option or some state of a module is not plain JSON.
    """
    entries = [
        {"module": where, "recipe": operation.recipe.to_dict(), "sites": sites_of(operation)}
        for where, operation in done
    ]
    header = {"attnzoo": FORMAT, "what": what, "model": model}
    header["operations"] = _plain_json("the recipe has an option", entries)
    if extra:
        header[EXTRA] = _plain_json(
            f"a module's get_extra_state ({', '.join(list(extra)[:3])}) has something", dict(extra)
        )
    if network is not None:
        header[NETWORK] = _plain_json("the recipe of the network has an option", dict(network))
    if backbone:
        header[BACKBONE] = json.dumps(dict(backbone))
    return header


def _plain_json(owner: str, value: Any) -> str:
    try:
        text = json.dumps(value)
        if json.loads(text) == value:
            return text
        reason = "it would come back as something else"
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    raise CheckpointError(
        f"{owner} that is not plain JSON: {reason}. Nothing is pickled, so it cannot be kept."
    )


def read_header(metadata: Mapping[str, str]) -> Header:
    """What a file's header says, every part of it checked.

    Raises:
        CheckpointError: a part is missing, of another type or out of range, or one that this
            version does not know.
        OptionError, UnknownNameError: a recipe names what there is not.
    """
    if metadata.get("attnzoo") != FORMAT:
        raise CheckpointError(
            f"it has format {metadata.get('attnzoo')}; this version reads {FORMAT}."
        )
    _whole("its header", metadata, KEYS, (EXTRA, NETWORK, BACKBONE))
    what: What = check_choice("the header", "what", metadata["what"], get_args(What))
    entries = _json("operations", metadata["operations"])
    network = _network(_json(NETWORK, metadata[NETWORK])) if NETWORK in metadata else None
    wrapped = isinstance(entries, list) and (entries or network)  # a plain network has none
    _check(wrapped, "operations must be a list of wraps")
    extra = _json(EXTRA, metadata[EXTRA]) if EXTRA in metadata else {}
    _check(isinstance(extra, dict), f"{EXTRA} must be a mapping")
    backbone = _json(BACKBONE, metadata[BACKBONE]) if BACKBONE in metadata else {}
    texts = isinstance(backbone, dict) and all(isinstance(mark, str) for mark in backbone.values())
    _check(texts, f"{BACKBONE} must be a mapping to texts")
    recipes = tuple(_operation(entry) for entry in entries)
    return Header(metadata["model"], what, recipes, extra, network, backbone)


def _network(told: Any) -> NetworkRecipe:
    _check(isinstance(told, dict), "the network must be a mapping")
    _whole("the network", told, tuple(NetworkRecipe("").to_dict()))
    try:
        return NetworkRecipe.from_dict(told)
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"in its header, the network cannot be read: {error}") from error


def _operation(entry: Any) -> tuple[str, Recipe, tuple[str, ...]]:
    _check(isinstance(entry, dict), "a wrap must be a mapping")
    _whole("a wrap", entry, ("module", "recipe", "sites"))
    where, recipe, sites = entry["module"], entry["recipe"], entry["sites"]
    _check(isinstance(where, str), "the module of a wrap must be a path")
    _check(_texts(sites), "the sites of a wrap must be a list of texts")
    _check(isinstance(recipe, dict), "a recipe must be a mapping")
    known = Recipe((), "none").to_dict()
    newest = known.pop("format")  # the first version did not tell
    _whole("a recipe", recipe, tuple(known), ("format", "arguments", "name"))
    told = recipe.get("format", 1)
    _check(
        type(told) is int and 1 <= told <= newest, f"the format of a recipe must be 1 to {newest}"
    )
    _check(
        isinstance(recipe["policy"], list)
        and recipe["policy"]
        and all(map(_is_call, recipe["policy"])),
        "the policy of a recipe must be a list of [name, options]",
    )
    _check(isinstance(recipe["block"], str), "the block of a recipe must be a name")
    _check(isinstance(recipe["options"], dict), "the options of a recipe must be a mapping")
    _check(recipe["start"] in get_args(Start), "the start of a recipe must be one there is")
    _check(
        recipe["input_size"] is None or _is_size(recipe["input_size"]),
        "the input_size of a recipe must be some numbers of at least 1",
    )
    _check(
        isinstance(recipe.get("name", "a"), str) and recipe.get("name", "a"),
        "the name of a recipe must be a text",
    )
    if "arguments" in recipe:
        example_told(recipe["arguments"])
    return where, Recipe.from_dict(recipe), tuple(sites)


def _is_call(value: Any) -> bool:
    pair = isinstance(value, list) and len(value) == 2
    return pair and isinstance(value[0], str) and isinstance(value[1], dict)


def _is_size(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= 8
        and all(type(side) is int and 1 <= side <= LARGEST for side in value)
    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _whole(
    owner: str, value: Mapping[str, Any], keys: tuple[str, ...], optional: tuple[str, ...] = ()
) -> None:
    missing = [key for key in keys if key not in value]
    _check(not missing, f"{owner} lacks {', '.join(missing)}")
    unknown = sorted(set(value) - {*keys, *optional})
    if unknown:
        raise CheckpointError(
            f"{owner} has {', '.join(map(repr, unknown[:5]))}, which this version of attnzoo does "
            f"not know; a newer one wrote it."
        )


def _check(right: Any, message: str) -> None:
    if not right:
        raise CheckpointError(f"in its header, {message}.")


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except AttnzooError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"in its header, {name} is no JSON: {error}.") from error


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which no key may be there twice: one of the values would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key in found if sum(key == other for other, _ in pairs) > 1)
        raise CheckpointError(f"in its header, {twice!r} is there twice.")
    return found
