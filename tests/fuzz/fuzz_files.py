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
from harness import changed, damaged, fuzzer
from torch import nn

import attnzoo

SIZE = (3, 16, 16)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    )


@functools.cache
def original(what: Any) -> bytes:
    """A file of two wraps."""
    model = attnzoo.wrap(net(), "pre-pool", "se", example=SIZE, reduction=4)
    attnzoo.wrap(model, ("match", {"pattern": "4"}), "eca", example=SIZE)
    with tempfile.TemporaryDirectory() as place:
        attnzoo.save(model, Path(place) / "file", what=what)
        return (Path(place) / "file").read_bytes()


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Any, data: bytes) -> bytes:
    text = json.dumps(header, default=repr).encode()
    return struct.pack("<Q", len(text)) + text + data


def case(draw: random.Random, place: Path) -> str:
    content = original(draw.choice(["attention", "all"]))
    header, data = parts(content)
    act = draw.randrange(4)
    if act == 0:
        content = damaged(draw, content)
    elif act == 1:
        operations = json.loads(header["__metadata__"]["operations"])
        header["__metadata__"]["operations"] = json.dumps(changed(draw, operations), default=repr)
        content = joined(header, data)
    elif act == 2:
        content = joined(changed(draw, header), data)
    else:
        key = draw.choice([key for key in header if key != "__metadata__"])
        header[key]["dtype"] = draw.choice(["I64", "F64", "BF16", "BOOL", "F8_E4M3", "C64", "I32"])
        content = joined(header, data)
    (place / "file").write_bytes(content)
    model = net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    try:
        attnzoo.load(place / "file", model)
    except Exception:
        after = model.state_dict()
        whole = list(after) == list(before) and all(
            torch.equal(after[k], before[k]) for k in before
        )
        if attnzoo.recipes(model) or not whole:
            return "lost"
        raise
    said = json.loads(parts(content)[0]["__metadata__"]["operations"])
    here = [recipe.to_dict() for recipe in attnzoo.recipes(model)]
    return "right" if here == [entry["recipe"] for entry in said] else "silent"


fuzz = fuzzer(case)
