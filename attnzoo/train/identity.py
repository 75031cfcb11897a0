"""What a run depends on beside its description, as digests: pictures, code, weights, defaults.

A run is told apart by these, and not by where its files are: a study that moves with its data
goes on, and one whose data, code or weights have changed has other runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from attnzoo.backbones import code_digest, weights_digest
from attnzoo.registry import BLOCKS
from attnzoo.train.data import ImageData
from attnzoo.train.pictures import Pictures
from attnzoo.train.spec import BLOCK, RunSpec, Variant
from attnzoo.train.targets import TargetPictures

__all__ = [
    "CODE",
    "DATA",
    "WEIGHTS",
    "backbone_digests",
    "block_defaults",
    "changes",
    "data_digest",
    "identified",
]

DATA, CODE, WEIGHTS = "data", "code", "weights"
KINDS = {
    DATA: "the pictures",
    CODE: "the code",
    WEIGHTS: "the weights",
    BLOCK: "what the block is by default",
}
SAMPLE = 64  # pictures of a split whose contents are looked at


def identified(run: RunSpec, data: ImageData) -> RunSpec:
    """The run with the digests of what it depends on; one that has them stays as it is."""
    if run.digests:
        return run
    options = run.building
    found = {DATA: data_digest(data, full=getattr(run.data, "digest", "") == "full")}
    found |= backbone_digests(run.backbone, options.pop("weights"), options)
    found[BLOCK] = block_defaults(run.variant)
    return run.model_copy(update={"digests": {k: v for k, v in found.items() if v}})


def backbone_digests(name: str, weights: Any, options: Mapping[str, Any]) -> dict[str, str]:
    """Of a backbone's code and weights; "" where its name says all."""
    return {CODE: code_digest(name), WEIGHTS: weights_digest(name, weights, options)}


def block_defaults(variant: Variant, *, former: bool = False) -> str:
    """Options that a variant leaves to defaults which were others once, with their values.

    Args:
        variant: what is put in.
        former: whether to give the values from before.
    """
    left = {} if variant.policy is None else _left(variant.block, variant.options, former)
    return ", ".join(f"{option}={value}" for option, value in left.items())


def _left(block: str, options: Mapping[str, Any], former: bool) -> dict[str, Any]:
    if block not in BLOCKS:
        return {}
    spec = BLOCKS[block]
    values = spec.former if former else spec.options
    left = {option: values[option] for option in spec.former if option not in options}
    if "like" in spec.options:  # a control is as large as that
        like = options.get("like", spec.options["like"])
        left |= _left(like, options.get("like_options") or {}, former)
    return left


def data_digest(data: ImageData, *, full: bool = False) -> str:
    """How many pictures there are, and a digest of them; "" for images that are drawn.

    It covers every picture's class, name and size in bytes, and the contents of some, spread
    evenly, or of all.
    """
    splits: dict[str, Any] = {name: getattr(data, name) for name in ("train", "test", "validation")}
    splits = {name: split for name, split in splits.items() if split is not None}
    if data.pool is not None:  # what is drawn from them says the seed
        splits = {"in all": data.pool}
    if data.drawn:
        return ""
    digest = hashlib.blake2b(digest_size=8)
    digest.update("\0".join(data.classes).encode())
    for name, split in splits.items():
        digest.update(f"\1{name}".encode())
        step = 1 if full else max(1, len(split) // SAMPLE)
        if isinstance(split, Pictures):
            _add_pictures(digest, split, step)
        else:
            digest.update(np.asarray(split.labels, dtype=np.int64).tobytes())
            for index in range(0, len(split), step):
                digest.update(np.asarray(split[0, 0, index][0]).tobytes())
    counts = ", ".join(f"{len(split)} {name}" for name, split in splits.items())
    return f"{counts} ({digest.hexdigest()})"


def _add_pictures(digest: Any, split: Pictures, step: int) -> None:
    digest.update(np.asarray(split.labels, dtype=np.int64).tobytes())
    if isinstance(split, TargetPictures):
        digest.update(split.targets.tobytes())
    for index in range(len(split)):
        path = split.path(index)
        looked_at = index % step == 0
        if path is None:
            if looked_at:
                digest.update(np.asarray(split.read(index)[0]).tobytes())
            continue
        file = Path(path)
        # The folder above the picture is its class, and what is above that may be anywhere.
        digest.update(f"{file.parent.name}/{file.name} {file.stat().st_size}\0".encode())
        if looked_at:
            digest.update(file.read_bytes())


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What has changed between two sets of digests, a line a thing."""
    lines = []
    for key in before:
        if key in now and before[key] != now[key]:
            kind, _, owner = key.partition(" ")
            of = f" of {owner}" if owner else ""
            lines.append(f"{KINDS[kind]}{of} changed: {before[key]} before, {now[key]} now")
    return lines
