"""Where the attention of a study's networks looks, and how far it opened.

    attnzoo ablate study.yaml --out runs/looking      # with `keep: all` in the study
    python examples/looks.py runs/looking

Writes into the study's folder, of every finished run that kept its network, before training and
after it:

looks.csv     of images with boxes: how each map of attention lies on the object
changes.csv   how far each attention changes what passes through it
deletion.csv  top-1 with the pixels that attention looks at most taken away, or put in first,
              and with random ones
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attnzoo.errors import NoMapsError, OptionError
from attnzoo.study import Record, read_folder
from attnzoo.train import ImageData, open_data, train
from attnzoo.trained import changes, deletion, looks, open_network, saliency

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
TABLES = ("looks", "changes", "deletion")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a study's folder")
    parser.add_argument("--images", type=int, default=256, help="test images to look at")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for record in read_folder(args.folder)[1]:
        if not record.result.sites or not (record.folder / "network.safetensors").is_file():
            continue
        data = open_data(record.spec.prepared)
        images, labels, boxes = sample(data, args.images)
        images, labels = images.to(args.device), labels.to(args.device)
        about = {
            "backbone": record.result.backbone,
            "variant": record.result.variant,
            "block": record.result.block,
            "start": record.result.start,
            "seed": record.result.seed,
        }
        for when, model in networks(record, data):
            model = model.eval().to(args.device)
            told = about | {"when": when}
            tables["changes"] += [told | asdict(one) for one in changes(model, images)]
            try:
                if boxes is not None:
                    tables["looks"] += [told | asdict(one) for one in looks(model, images, boxes)]
                if when == "after":
                    tables["deletion"] += list(curves(told, model, images, labels))
            except (NoMapsError, OptionError):  # its maps, if any, are over channels
                continue
        print(f"{record.result.backbone}, {record.result.variant}, seed {record.result.seed}")
    for name, rows in tables.items():
        if rows:
            write(args.folder / f"{name}.csv", rows)
            print(f"{args.folder / name}.csv: {len(rows)} rows")


def sample(data: ImageData, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The first test images, their classes, and the objects' boxes where they are known."""
    count = min(count, len(data.test))
    samples = [data.sample(index) for index in range(count)]
    images = data.test_images([one.index for one in samples])
    labels = torch.tensor([data.classes.index(one.label) for one in samples])
    known = [one.box for one in samples if one.box is not None]
    return images, labels, torch.tensor(known) if len(known) == count else None


def networks(record: Record, data: ImageData) -> Iterator[tuple[str, nn.Module]]:
    """The network before its training, built again from what the run says, and after it."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = record.spec.model_dump()
        fresh["train"] |= {"epochs": 0, "warmup_epochs": 0.0}
        fresh["keep"], fresh["digests"] = "all", {}
        train(fresh, Path(folder) / "run", data=data)
        yield "before", open_network(Path(folder) / "run").model
    yield "after", open_network(record.folder).model


def curves(
    about: dict[str, Any], model: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> Iterator[dict[str, Any]]:
    heat = saliency(model, images)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(heat.shape, generator=generator).to(heat)
    empty = float(images.amin())
    for order, values in (("attention", heat), ("random", noise)):
        for insert in (False, True):
            tops = deletion(model, images, labels, values, SHARES, empty=empty, insert=insert)
            kind = "insertion" if insert else "deletion"
            for share, top1 in zip(SHARES, tops, strict=True):
                yield about | {"kind": kind, "order": order, "share": share, "top1": top1}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    rounded = [
        {key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()}
        for row in rows
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rounded)


if __name__ == "__main__":
    main()
