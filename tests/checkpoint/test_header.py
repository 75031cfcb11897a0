"""Files whose header was changed: every part is checked, and the model stays as it was."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from zoo import snapshot

import attnzoo
from attnzoo.errors import CheckpointError

SIZE = (3, 16, 16)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two wraps, all weights."""
    model = attnzoo.wrap(net(), "pre-pool", "se", example=SIZE, reduction=4)
    attnzoo.wrap(model, ("match", {"pattern": "4"}), "eca", example=SIZE)
    attnzoo.save(model, tmp_path / "two.safetensors", what="all")
    return tmp_path / "two.safetensors"


def rewrite(path: Path, change: Any) -> None:
    """Change the header: `change` gets its parts, the operations as what they stand for."""
    with safe_open(path, framework="pt") as opened:
        header = dict(opened.metadata())
    header["operations"] = json.loads(header["operations"])
    change(header)
    if not isinstance(header.get("operations", ""), str):
        header["operations"] = json.dumps(header["operations"])
    save_file(load_file(path), path, metadata=header)


def refused(path: Path, match: str | None = None) -> None:
    model = net()
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=match):
        attnzoo.load(path, model)
    assert attnzoo.recipes(model) == []
    assert snapshot(model) == before
    assert all(module is model or not module._forward_hooks for module in model.modules())


PLACES: list[tuple[tuple[Any, ...], list[Any]]] = [
    (("operations",), [[], {}, 3, None, [3], [[]], [{}], "[", "[" * 3000]),
    (("operations", 1, "module"), [3, None, ["x"], "none.there"]),
    (("operations", 1, "sites"), [3, "after 4 8", [3], [], ["after 0 8"]]),
    (("operations", 1, "recipe"), [3, [], {}, None]),
    (("operations", 1, "recipe", "block"), [["eca"], 3, None, "none such", {}]),
    (("operations", 1, "recipe", "policy"), ["match", [], [3], [["match"]], [["match", 3]]]),
    (("operations", 1, "recipe", "policy", 0, 1), [{"pattern": 5}, {"pattern": None}, {"x": 1}]),
    (("operations", 1, "recipe", "options"), [3, [], {"none": 1}, {"kernel_size": "x"}]),
    (("operations", 1, "recipe", "start"), ["papers", "", 3, None, []]),
    (
        ("operations", 1, "recipe", "input_size"),
        [3, [], [3, 16], [3, 16, 10**30], [3, -16, 16], [3, 1.5, 16], ["3", 16, 16], [3, 2**31, 1]],
    ),
    (("what",), ["everything", ""]),
    (("attnzoo",), ["2", ""]),
]


@pytest.mark.parametrize(
    ("place", "value"), [(place, value) for place, values in PLACES for value in values], ids=repr
)
def test_a_header_that_says_something_else_is_refused(
    file: Path, place: tuple[Any, ...], value: Any
) -> None:
    def change(header: Any) -> None:
        for step in place[:-1]:
            header = header[step]
        header[place[-1]] = value

    rewrite(file, change)
    refused(file)


@pytest.mark.parametrize(
    "place", [(), ("operations", 0), ("operations", 1, "recipe")], ids=["header", "wrap", "recipe"]
)
def test_what_a_newer_version_would_say_is_not_ignored(file: Path, place: tuple[Any, ...]) -> None:
    def change(header: Any) -> None:
        for step in place:
            header = header[step]
        header["newer"] = "x"

    rewrite(file, change)
    refused(file, "'newer', which this version")


@pytest.mark.parametrize("key", ["attnzoo", "what", "model", "operations"])
def test_a_header_that_lacks_a_part_is_refused(file: Path, key: str) -> None:
    rewrite(file, lambda header: header.pop(key))
    refused(file)


def test_a_name_that_is_there_twice_is_refused(file: Path) -> None:
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = content[8 : 8 + length].decode().rstrip()
    entry = json.dumps("0.bias") + ":" + json.dumps(json.loads(header)["0.bias"])
    doubled = f"{header[:-1]},{entry}}}".encode()
    file.write_bytes(struct.pack("<Q", len(doubled)) + doubled + content[8 + length :])
    refused(file, "twice")


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint8]
)
def test_weights_of_a_type_that_cannot_mean_them_are_refused(
    file: Path, dtype: torch.dtype
) -> None:
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    tensors = load_file(file)
    tensors["0.weight"] = tensors["0.weight"].to(dtype)
    save_file(tensors, file, metadata=header)
    refused(file, "0.weight is torch")


def test_weights_of_another_precision_are_taken(file: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    tensors = load_file(file)
    tensors["0.weight"] = tensors["0.weight"].double()
    save_file(tensors, file, metadata=header)
    assert attnzoo.load(file, net())[0].weight.dtype == torch.float32


def test_a_file_of_two_wraps_for_another_network_leaves_none(file: Path) -> None:
    other = nn.Sequential(net(), nn.Flatten())
    with pytest.raises(CheckpointError):
        attnzoo.load(file, other)
    assert not attnzoo.recipes(other)


def test_the_repr_of_a_checkpoint_fits_on_a_screen(file: Path) -> None:
    told = repr(attnzoo.load(file))
    assert len(told) < 400
    assert "pre-pool" in told
    assert "eca" in told
