"""Files of weights that something happened to, loaded into the plain network."""

from __future__ import annotations

import functools
import json
import random
import struct
import tempfile
from pathlib import Path
from typing import Any

import torch
from harness import changed, damaged, fuzzer, nudged
from torch import nn

import attnzoo

SIZE = (3, 16, 16)
WORDS = [
    *attnzoo.list_blocks(),
    *attnzoo.list_policies(),
    "timm:se",
    "identity",
    "paper",
    "neutral",
]
WORDS += ["0", "1", "4", "pattern", "type", "where", "stages", "every", "reduction", "kernel_size"]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    )


def wrapped(model: nn.Module) -> nn.Module:
    attnzoo.wrap(model, "pre-pool", "se", example=SIZE, reduction=4)
    return attnzoo.wrap(model, ("match", {"pattern": "4"}), "eca", example=SIZE)


@functools.cache
def original(what: Any) -> bytes:
    """A file of two wraps."""
    model = wrapped(net())
    with tempfile.TemporaryDirectory() as place:
        attnzoo.save(model, Path(place) / "file", what=what)
        return (Path(place) / "file").read_bytes()


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Any, data: bytes) -> bytes:
    text = json.dumps(header, default=repr).encode()
    return struct.pack("<Q", len(text)) + text + data


def hurt(draw: random.Random, content: bytes) -> bytes:
    """A file that is not as it was: often still one that can be read."""
    header, data = parts(content)
    told = header["__metadata__"]
    act = draw.randrange(10)
    if act == 0:
        return damaged(draw, content)
    if act == 1:
        return joined(changed(draw, header), data)
    if act < 6:
        alter = (lambda draw, value: nudged(draw, value, WORDS)) if act > 2 else changed
        operations = alter(draw, json.loads(told["operations"]))
        told["operations"] = json.dumps(operations, default=repr)
    elif act == 6:
        key = draw.choice([key for key in header if key != "__metadata__"])
        header[key]["dtype"] = draw.choice(["I64", "F64", "BF16", "BOOL", "F8_E4M3", "C64", "I32"])
    elif act == 7:
        header = nudged(draw, header, [*header, "F16", "F32", "all", "attention"])
    elif act == 8:
        one, two = draw.sample([key for key in header if key != "__metadata__"], 2)
        header[one], header[two] = header[two], header[one]
    else:
        values = bytearray(data)
        values[draw.randrange(len(values))] ^= 1 << draw.randrange(8)
        data = bytes(values)
    return joined(header, data)


def case(draw: random.Random, place: Path) -> str:
    content = hurt(draw, original(draw.choice(["attention", "all"])))
    (place / "file").write_bytes(content)
    model = net()
    if draw.random() < 0.3:  # one that is wrapped already keeps its attention
        wrapped(model)
    done = attnzoo.recipes(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    try:
        attnzoo.load(place / "file", model)
    except Exception:
        after = model.state_dict()
        whole = list(after) == list(before) and all(
            torch.equal(after[k], before[k]) for k in before
        )
        if attnzoo.recipes(model) != done or not whole:
            return "lost"
        raise
    read = attnzoo.load(place / "file")
    state = model.state_dict()
    if any(not same(state[key], value) for key, value in read.tensors.items()):
        return "silent"
    said = json.loads(parts(content)[0]["__metadata__"]["operations"])
    here = [recipe.to_dict() for recipe in attnzoo.recipes(model)]
    if done:  # by places and weights, whatever the file calls its recipe
        return "right"
    return "right" if plainly(here) == plainly([one["recipe"] for one in said]) else "silent"


def same(here: torch.Tensor, there: torch.Tensor) -> bool:
    """The same values, no numbers among them; a file may have another type of floats."""
    there = there.to(here.dtype)
    return torch.equal(here.nan_to_num(7.0), there.nan_to_num(7.0))


def plainly(recipes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what reading adds: the format, and what options were before they had a name."""
    return [
        {k: v for k, v in recipe.items() if k not in ("format", "options")} for recipe in recipes
    ]


fuzz = fuzzer(case)
