"""What the variants of a study cost on this machine: latency, throughput, memory.

Times of different moments cannot be compared on a machine that does other things too. So all
variants of a backbone stand ready together and take turns, image by image: what slows one down
slows the others down as well, and each is held against the plain network of the same round.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo.checks import counted
from attnzoo.errors import AttnzooError, StudyError
from attnzoo.study.definition import Study
from attnzoo.study.numbers.costs import (
    BackboneCosts,
    Costs,
    Spread,
    VariantCosts,
    read_costs,
    write_costs,
)
from attnzoo.train import RunSpec, TrainRecipe, build, launch

__all__ = ["is_measured", "measure_costs"]

SECONDS = 0.5  # for one image, and again for a batch, of each backbone
ROUNDS = (3, 40)  # at least, at most


def measure_costs(study: Study, folder: str | Path, classes: int) -> Costs:
    """Measure what is not measured yet, and leave all of it in the study's folder.

    A second or two a backbone, more where a forward pass takes long: every variant has three
    turns at least. What was measured on this device, of the same variants, with the same PyTorch,
    stays. A backbone that cannot be measured, for lack of memory for example, is left out with
    the reason, and the study goes on.

    Args:
        study: what to measure; nothing where it says `measure: false`.
        folder: of the study.
        classes: of its data.
    """
    known = _known(folder)
    if not study.measure:
        return known
    kept = {entry.key: entry for entry in known.backbones if not entry.failed}
    costs = Costs(
        backbones=tuple(
            kept.get(_key(runs)) or _measured(runs, classes)
            for runs in _by_backbone(study).values()
        )
    )
    if costs != known:
        write_costs(folder, costs)
    return costs


def is_measured(study: Study, folder: str | Path) -> bool:
    """Whether there is nothing left to measure of a study on this device."""
    if not study.measure:
        return True
    known = {entry.key for entry in _known(folder).backbones}
    return all(_key(runs) in known for runs in _by_backbone(study).values())


def _known(folder: str | Path) -> Costs:
    """What was measured before; what cannot be read is measured anew."""
    try:
        return read_costs(folder) or Costs()
    except StudyError:
        return Costs()


def _by_backbone(study: Study) -> dict[str, list[RunSpec]]:
    """Backbone → one run of each of its variants."""
    found: dict[str, list[RunSpec]] = {}
    for run in study.runs:
        if run.train.seed == study.seeds[0]:
            found.setdefault(run.backbone, []).append(run)
    return found


def _key(runs: Sequence[RunSpec]) -> str:
    """Of the device and what runs depend on; not of where their files are."""
    where = [_device_text(runs[0]), torch.__version__]
    told = json.dumps([*where, *(run.identity for run in runs)])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _measured(runs: Sequence[RunSpec], classes: int) -> BackboneCosts:
    first = runs[0]
    empty = BackboneCosts(
        backbone=first.backbone,
        key=_key(runs),
        device=_device_text(first),
        measured=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        batch_size=_images_a_pass(first.train),
        size=first.shape[-1],
    )
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            rounds, variants = _take_turns(runs, classes)
    except Exception as error:  # the runs are done; what fails here must not cost their report
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        return empty.model_copy(update={"failed": reason})
    return empty.model_copy(update={"rounds": rounds, "variants": variants})


def _take_turns(
    runs: Sequence[RunSpec], classes: int
) -> tuple[tuple[int, int], tuple[VariantCosts, ...]]:
    recipe, shape = runs[0].train, runs[0].shape
    count, fabric = _images_a_pass(recipe), _one_device(recipe)
    models = []
    for run in runs:
        model = build(run, classes).model
        models.append(model.to(fabric.device).to(memory_format=torch.channels_last))
    torch.manual_seed(0)
    images = torch.randn(count, *shape, device=fabric.device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(count, device=fabric.device) % classes

    memory = [_memory(model, images, labels, fabric.autocast) for model in models]
    for model in models:
        model.eval()
    with torch.inference_mode(), fabric.autocast():
        one = _times([lambda m=model: m(images[:1]) for model in models], fabric.device)
        many = _times([lambda m=model: m(images) for model in models], fabric.device)
    plain = next(i for i, run in enumerate(runs) if run.variant.policy is None)
    return (len(one), len(many)), tuple(
        VariantCosts(
            variant=run.variant.title,
            latency=_spread(1e3 * one[:, i]),
            slowdown=_spread(one[:, i] / one[:, plain]),
            images_per_second=_spread(len(images) / many[:, i]),
            saved_bytes=saved,
            peak_bytes=peak,
        )
        for i, (run, (saved, peak)) in enumerate(zip(runs, memory, strict=True))
    )


def _times(calls: Sequence[Callable[[], Any]], device: torch.device) -> np.ndarray:
    """Seconds of each call, `(rounds, calls)`; every other round goes the other way round."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for call in calls:
        call()
    wait()
    least, most = ROUNDS
    rows: list[list[float]] = []
    began = time.perf_counter()
    while len(rows) < least or (len(rows) < most and time.perf_counter() - began < SECONDS):
        row = [0.0] * len(calls)
        turns = range(len(calls)) if len(rows) % 2 else reversed(range(len(calls)))
        for i in turns:
            start = time.perf_counter()
            calls[i]()
            wait()
            row[i] = time.perf_counter() - start
        rows.append(row)
    return np.array(rows)


def _memory(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> tuple[int, int | None]:
    """`saved_bytes` and `peak_bytes` of one training step."""
    model.train()
    saved = saved_bytes(model, images, labels, autocast)
    if images.device.type != "cuda":
        return saved, None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with autocast():
        loss = F.cross_entropy(model(images), labels)
    loss.backward()
    peak = torch.cuda.max_memory_allocated() - before
    model.zero_grad(set_to_none=True)
    return saved, peak


def saved_bytes(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> int:
    """Bytes that the forward pass of a training step keeps for the backward pass.

    Storages, each counted once, but for the weights, the buffers and the images, which are there
    anyway. The same on every machine that takes the same kernels.
    """
    there = [*model.parameters(), *model.buffers(), images, labels]
    known = {tensor.untyped_storage().data_ptr() for tensor in there}
    kept: dict[int, torch.UntypedStorage] = {}  # alive, so that no address comes twice

    def note(tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage

    def give_back(_: None) -> Tensor:
        raise AssertionError("there is no backward pass")

    with torch.autograd.graph.saved_tensors_hooks(note, give_back), autocast():
        F.cross_entropy(model(images), labels)
    return sum(storage.nbytes() for storage in kept.values())


def _spread(values: np.ndarray) -> Spread:
    low, median, high = np.percentile(values, [25, 50, 75]).tolist()
    return Spread(median=median, low=low, high=high)


def _one_device(recipe: TrainRecipe) -> Any:
    """Fabric on one device, however many the training takes."""
    return launch(recipe.model_copy(update={"devices": 1, "nodes": 1, "strategy": "auto"}))


def _images_a_pass(recipe: TrainRecipe) -> int:
    """Images that one device sees in a pass of the training."""
    here = recipe.devices if isinstance(recipe.devices, int) else 1
    return recipe.images_a_pass(here * recipe.nodes)


def _device_text(run: RunSpec) -> str:
    try:
        device = _one_device(run.train).device
    except AttnzooError:  # runs were done elsewhere, on a device that is not here
        return f"no {run.train.device} here"
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {counted(torch.get_num_threads(), 'thread')}"
