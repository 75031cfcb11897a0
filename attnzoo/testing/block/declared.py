"""What is declared of a block is so: its maps, its start, its options."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import docstring_parser
import torch
from torch import Tensor, nn

from attnzoo.errors import OptionError
from attnzoo.registry import BlockSpec
from attnzoo.surgery import build_block
from attnzoo.testing.block.subject import BlockSubject
from attnzoo.testing.contract import BreachError, NotRunError, same_bits

__all__ = ["documented_arguments", "identity", "maps", "neutral", "options"]

MAP_SHAPES: dict[str, Callable[[int, int, int, int], tuple[int, ...]]] = {
    "channel": lambda n, c, h, w: (n, c, 1, 1),
    "spatial": lambda n, c, h, w: (n, 1, h, w),
    "both": lambda n, c, h, w: (n, c, h, w),
}


def maps(subject: BlockSubject) -> None:
    """Each submodule that is declared to return an attention map does, once, of that kind."""
    spec = _registered(subject)
    if spec.kind == "control" and spec.maps:
        raise BreachError("a control attends to nothing, and declares maps", excusable=False)
    if spec.kind != "control" and not spec.maps:
        raise BreachError(
            "no submodule is declared to return its attention map; name those that do in "
            "maps= of register_block, or say why there is none in limits={'maps': …}"
        )
    shape = subject.fit(2, 8, 5, 7)
    block = subject.randomised(shape[1]).eval()
    emitted: dict[str, list[Any]] = {path: [] for path in spec.maps}
    for path, outputs in emitted.items():
        if path not in dict(block.named_modules()):
            raise BreachError(f"maps names {path!r}, which the block does not have")
        block.get_submodule(path).register_forward_hook(
            lambda module, args, output, outputs=outputs: outputs.append(output)
        )
    block(torch.randn(shape))
    for path, kind in spec.maps.items():
        if len(emitted[path]) != 1:
            raise BreachError(f"{path} ran {len(emitted[path])} times")
        _is_map(path, emitted[path][0], kind, shape)


def _is_map(path: str, attention: Any, kind: str, shape: tuple[int, ...]) -> None:
    if not isinstance(attention, Tensor):
        raise BreachError(f"{path} returns a {type(attention).__name__}, not a map")
    found = tuple(attention.shape)
    if kind in MAP_SHAPES:
        expected = MAP_SHAPES[kind](*shape)
        if found != expected:
            raise BreachError(f"{path} returns {found}; a map of kind {kind!r} is {expected}")
        return
    # pairwise: each row or column of the last two axes shares out a weight of 1
    shares = attention.ndim >= 3 and bool(attention.min() >= 0)
    sums = (attention.sum(-1), attention.sum(-2)) if shares else ()
    if not any(torch.allclose(total, torch.ones_like(total)) for total in sums):
        raise BreachError(
            f"{path} returns {found}, which is no map of kind 'pairwise': neither the rows nor the "
            f"columns of its last two axes are weights that sum to 1"
        )


@torch.no_grad()
def neutral(subject: BlockSubject) -> None:
    """Where `neutral` says so, the block can start as the identity, bit for bit, without γ."""
    spec = _registered(subject)
    if not spec.neutral:
        if "neutral" in spec.limits:
            raise BreachError("it has no neutral start")
        raise NotRunError("neutral= of register_block says of none, and no limit why")
    _, channels, height, width = subject.fit(2, 8, 5, 7)
    block = build_block(spec, channels, subject.options, "cpu", "neutral")
    x = torch.randn(2, channels, height, width)
    for training in (True, False):
        if not same_bits(block.train(training)(x), x):
            raise BreachError("started as neutral, it changes its input", excusable=False)


@torch.no_grad()
def identity(subject: BlockSubject) -> None:
    """A fresh block returns its input, bit for bit, exactly if `identity_at_init` says so."""
    spec = _registered(subject)
    for training in (True, False):
        shape = subject.fit(2, 8, 5, 7)
        block = subject.build(shape[1]).train(training)
        x = torch.randn(shape)
        x[0], x[1, 0] = -0.0, 0.0
        same = torch.equal(block(x).view(torch.int32), x.view(torch.int32))
        if same != spec.identity_at_init:
            does = "returns" if same else "does not return"
            mode = "training" if training else "eval"
            raise BreachError(
                f"identity_at_init={spec.identity_at_init}, but a fresh block {does} its input in "
                f"{mode} mode"
            )


def options(subject: BlockSubject) -> str | None:
    """Each option is documented; wrong names and values raise `OptionError`, which names them."""
    spec = subject.spec
    described = documented_arguments(spec, subject.build(subject.fit(2, 8, 5, 7)[1]))
    absent = [option for option in spec.options if not described.get(option)]
    if absent:
        raise BreachError(f"its docstring has no word on {', '.join(absent)} under Args:")
    _refuses(subject, 8, {"no_such_option": 4}, ("no_such_option",))
    for channels in (0, -1, 8.0, True, "8"):
        _refuses(subject, channels, {}, ("channels", repr(channels)))
    _, channels, _, _ = subject.fit(2, 8, 5, 7)
    unknown = []
    for option, default in spec.options.items():
        wrong = _wrong_values(default)
        unknown += [] if wrong else [option]
        for value in wrong:
            _refuses(subject, channels, {option: value}, (option, repr(value)))
    return f"no wrong value is known for {', '.join(unknown)}" if unknown else None


def _refuses(subject: BlockSubject, channels: Any, wrong: dict[str, Any], says: Any) -> None:
    asked = ", ".join(f"{option}={value!r}" for option, value in wrong.items())
    asked = asked or f"channels={channels!r}"
    try:
        subject.spec.build(channels, **{**subject.options, **wrong})
    except OptionError as error:
        if not all(word in str(error) for word in says):
            raise BreachError(f"the error for {asked} does not say so: {error}") from error
        return
    except Exception as error:
        raise BreachError(f"{asked} raises {type(error).__name__}, not OptionError") from error
    raise BreachError(f"takes {asked}; raise attnzoo.errors.OptionError where it is built")


def _wrong_values(default: Any) -> tuple[Any, ...]:
    """Values that an option with such a default cannot mean."""
    if isinstance(default, bool):
        return ("no such value",)
    if isinstance(default, int):
        return ("no such value", 1.5)
    if isinstance(default, float):
        return ("no such value", math.nan)
    if isinstance(default, str):
        return ("no such value", 0)
    return ()


def documented_arguments(spec: BlockSpec, block: nn.Module) -> dict[str, str]:
    """Argument → what the docstrings of the factory and of the block's class say of it."""
    texts = dict.fromkeys(inspect.getdoc(source) or "" for source in (type(block), spec.factory))
    style = docstring_parser.DocstringStyle.GOOGLE
    return {
        parameter.arg_name: " ".join((parameter.description or "").split())
        for text in texts
        for parameter in docstring_parser.parse(text, style).params
    }


def _registered(subject: BlockSubject) -> BlockSpec:
    if not subject.registered:
        raise NotRunError("register_block it, which declares this")
    return subject.spec
