"""The docstring's formulas for parameters and MACs, compared with what is counted.

    Parameters: 2·C·h + h + C, with h = max(C // r, 1).
    MACs: 2·C·h.

C, H and W are those of the map. Other symbols are those that the options' descriptions begin with
(`reduction: r, an integer ≥ 1.`), an option's name, or what stands behind "with".
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.registry import create_block
from attnzoo.testing.block.declared import documented_arguments
from attnzoo.testing.block.subject import BlockSubject
from attnzoo.testing.contract import BreachError, NotRunError

__all__ = ["formulas"]

FUNCTIONS = {
    "max": max,
    "min": min,
    "round": round,
    "parameters": lambda name, channels: _parameters(create_block(name, channels)),
    "divisor": lambda n, limit: max(d for d in range(1, limit + 1) if n % d == 0),
}
# As in "Parameters: 10·w² + 4·w, with g = divisor(C, G) and w = C // g."
PARAMETERS = re.compile(r"Parameters: ([^,\n]+)(?:,\s+with (.+))?\.\n")
MACS = re.compile(r"MACs: (.+)\.\n")
SYMBOL = re.compile(r"(\w)(?:,| of )")


def formulas(subject: BlockSubject) -> None:
    """Parameters and MACs are what the docstring's formulas give, with the default options."""
    parameters, macs = _lines(subject)
    for asked in (1, 64, 96):
        _, channels, height, width = subject.fit(2, asked, 14, 10)
        chosen = _chosen(subject)
        with torch.device("meta"):
            block = subject.spec.build(channels, **chosen).eval()
            with FlopCounterMode(display=False) as counter:
                block(torch.empty(1, channels, height, width))
        scope: dict[str, Any] = {"C": channels, "H": height, "W": width, **FUNCTIONS, **chosen}
        for option, text in documented_arguments(subject.spec, block).items():
            symbol = SYMBOL.match(text)
            if symbol and option in chosen:
                scope[symbol[1]] = chosen[option]
        for definition in parameters[2].split(" and ") if parameters[2] else ():
            symbol, _, meaning = definition.partition(" = ")
            scope[symbol] = _value(meaning, scope)
        counted = {"Parameters": _parameters(block), "MACs": counter.get_total_flops() // 2}
        for line, text in (("Parameters", parameters[1]), ("MACs", macs[1])):
            if _value(text, scope) != counted[line]:
                raise BreachError(
                    f"{line}: {text} is {_value(text, scope)} at C={channels}, {height}×{width}, "
                    f"and {counted[line]} are counted"
                )


def _chosen(subject: BlockSubject) -> dict[str, Any]:
    """The default options, which formulas are for; numbers where the default is "auto"."""
    required = inspect.Parameter.empty
    chosen: dict[str, Any] = {}
    for option, default in subject.spec.options.items():
        chosen[option] = subject.options[option] if default is required else default
        if chosen[option] == "auto":
            chosen[option] = 5
    return chosen


def _lines(subject: BlockSubject) -> tuple[re.Match[str], re.Match[str]]:
    block = subject.build(subject.fit(2, 64, 14, 10)[1])
    for source in (type(block), subject.spec.factory):
        text = f"{inspect.getdoc(source) or ''}\n"
        parameters, macs = PARAMETERS.search(text), MACS.search(text)
        if parameters and macs:
            return parameters, macs
    raise NotRunError("the docstring has no lines 'Parameters: ….' and 'MACs: ….'")


def _value(formula: str, scope: dict[str, Any]) -> int:
    expression = formula.replace("·", "*").replace("²", "**2")
    # What is evaluated is the block's author's, as much as the code that runs in every check.
    return eval(expression, {"__builtins__": {}}, scope)


def _parameters(block: nn.Module) -> int:
    return sum(parameter.numel() for parameter in block.parameters())
