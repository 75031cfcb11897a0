"""Predictions of `attnzoo predict` against a bare loop over timm's loader and the model.

Both read the same 1,000 JPEG files, prepare them by timm's transform, and run the same network, in
batches of 50 on one thread. They take turns within one run, a batch each, so that whatever else the
machine does disturbs all. attnzoo's has the checks of each picture, the probabilities and the table
on top; the bare loop is there as everybody writes it, and with the model channels last, as attnzoo
has it. The figure is attnzoo's images a second over a bare loop's, the median over turns with its
95 % interval, and that of all 1,000 pictures; 0.95 or more is wanted over both.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from timing import keep_memory, ratio
from timm.data import create_loader
from torch import nn

import attnzoo
from attnzoo.backbones import NetworkRecipe
from attnzoo.trained import TrainedNetwork, find_pictures, predict, write_predictions

PICTURES, BATCH, SIZE = 1000, 50, 128
CLASSES = tuple(f"class {index}" for index in range(10))
INPUT = {
    **{"size": SIZE, "mean": [0.5] * 3, "std": [0.5] * 3, "channels": 3},
    **{"interpolation": "bicubic", "test_crop": 0.875},
}
NETWORKS = ("resnet18", "tf_efficientnet_lite0")  # others of timm: name them
WANTED = 0.95


def draw_pictures(folder: Path) -> None:
    """Smooth colours with a little noise, of a snapshot's shape."""
    rng = np.random.default_rng(0)
    (folder / "all").mkdir()
    for index in range(PICTURES):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((240, 180), Image.Resampling.BICUBIC)).astype(int)
        noisy = (pixels + rng.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "all" / f"{index:04d}.jpg", quality=90)


def bare(model: nn.Module, folder: Path, layout: torch.memory_format) -> Iterator[None]:
    """What everybody writes, a batch at a time."""
    model = model.to(memory_format=layout)
    loader = create_loader(
        timm.data.create_dataset("", folder),
        input_size=(3, SIZE, SIZE),
        batch_size=BATCH,
        use_prefetcher=False,
        interpolation=INPUT["interpolation"],
        mean=INPUT["mean"],
        std=INPUT["std"],
        crop_pct=INPUT["test_crop"],
        num_workers=0,
        device=torch.device("cpu"),
    )
    with torch.inference_mode():
        for images, _ in loader:
            model(images.contiguous(memory_format=layout)).argmax(1).tolist()
            yield


def ours(network: TrainedNetwork, folder: Path) -> Iterator[None]:
    """A batch at a time, and the table at the end."""
    said = predict(network, find_pictures([folder]), batch_size=BATCH, device="cpu")
    rows = []
    while batch := list(islice(said, BATCH)):
        rows += batch
        if len(rows) == PICTURES:
            write_predictions(rows, CLASSES, folder / "predictions.csv")
        yield


def main() -> int:
    keep_memory()
    torch.set_num_threads(1)  # threads that wait for each other would be all the noise
    torch.manual_seed(0)
    worst = float("inf")
    with tempfile.TemporaryDirectory() as place:
        draw_pictures(Path(place))
        for name in sys.argv[1:] or NETWORKS:
            model = attnzoo.wrap(timm.create_model(name, num_classes=len(CLASSES)), "auto", "se")
            recipe = NetworkRecipe(f"timm/{name}", size=SIZE, classes=CLASSES, input=INPUT)
            theirs, alike = copy.deepcopy(model).eval(), copy.deepcopy(model).eval()
            runs = {
                "attnzoo": ours(TrainedNetwork(model.eval(), recipe), Path(place)),
                "bare loop": bare(theirs, Path(place), torch.contiguous_format),
                "the same, channels last": bare(alike, Path(place), torch.channels_last),
            }
            seconds: dict[str, list[float]] = {kind: [] for kind in runs}
            for turn in range(PICTURES // BATCH):
                for kind in list(runs)[:: 1 if turn % 2 else -1]:
                    began = time.perf_counter()
                    next(runs[kind])
                    seconds[kind].append(time.perf_counter() - began)
            print(f"{name} with se, {PICTURES} pictures, {SIZE} pixels, batches of {BATCH}")
            own = seconds.pop("attnzoo")
            print(f"  {'attnzoo':24}{PICTURES / sum(own):8.1f} images/s")
            for kind, found in seconds.items():
                middle, low, high = ratio(found, own)
                whole = sum(found) / sum(own)
                worst = min(worst, middle, whole)
                print(
                    f"  {kind:24}{PICTURES / sum(found):8.1f} images/s; ratio {middle:.3f} "
                    f"({low:.3f} to {high:.3f}), of all {whole:.3f}"
                )
    print(f"worst ratio {worst:.3f}; wanted: {WANTED} or more")
    return int(worst < WANTED)


if __name__ == "__main__":
    sys.exit(main())
