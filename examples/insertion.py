"""Accuracy right after attention is put into networks that were trained without it.

    attnzoo ablate study.yaml --out runs/starts       # with `keep: all` in the study
    python examples/insertion.py runs/starts

Takes every plain network of the study, puts in what each of its variants puts in, and tests it as
it is, without training. Writes insertion.csv into the study's folder.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import attnzoo
from attnzoo.study import read_folder
from attnzoo.train import open_data
from attnzoo.trained import evaluate, open_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a study's folder")
    folder = parser.parse_args().folder
    study, records = read_folder(folder)
    rows = []
    for record in records:
        if record.result.sites or not (record.folder / "network.safetensors").is_file():
            continue
        data = open_data(record.spec.prepared)
        plain = open_network(record.folder)
        before = evaluate(plain, data).top1
        tried = set()
        for variant in study.variants:
            what = (variant.block, variant.start)
            if variant.policy is None or what in tried:
                continue  # learning rates don't matter before training
            tried.add(what)
            model = attnzoo.wrap(
                open_network(record.folder).model.cpu(),
                variant.policy,
                variant.block,
                example=data.test_images([0]),
                start=variant.start,
                **variant.options,
            )
            after = evaluate(replace(plain, model=model), data).top1
            rows.append(
                {
                    "backbone": record.result.backbone,
                    "seed": record.result.seed,
                    "block": variant.block,
                    "start": variant.start,
                    "plain": f"{before:.4f}",
                    "inserted": f"{after:.4f}",
                }
            )
            print(*rows[-1].values())
    with (folder / "insertion.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
