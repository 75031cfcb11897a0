"""Do some runs of published studies again, and compare them with what was published.

    python examples/again.py                          # a tenth of every study of the project
    python examples/again.py runs/mine --share 0.3    # of a folder that `attnzoo ablate` wrote

Every run has its seed. On the machine that the study was done on it comes to the same accuracy; on
another one a run is expected within the 95% interval for one more run of its variant, which the
published seeds give. Of many runs one in twenty falls outside by chance. Ends with an error where
more do than chance explains (binomial, 1%). Runs that are in the `--out` folder are not done again.
"""

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from attnzoo.errors import AttnzooError
from attnzoo.study import load_study, read_folder
from attnzoo.train import RunSpec, open_data, train

PUBLISHED = Path(__file__).parents[1] / "docs" / "data" / "studies"
COLUMNS = ("study", "backbone", "variant", "seed", "then", "now", "low", "high", "inside")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="*", help="studies; by default the project's")
    parser.add_argument("--share", type=float, default=0.1, help="of each study's runs")
    parser.add_argument("--runs", type=int, help="of each study, instead of a share")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/again"))
    args = parser.parse_args()
    folders = args.folders or sorted(path.parent for path in PUBLISHED.glob("*/results.csv"))
    tasks = [
        (folder.name, run, then, args.out / folder.name / f"{i}")
        for folder in folders
        for i, run, then in chosen(folder, args.share, args.runs)
    ]
    context = multiprocessing.get_context("spawn")
    rows = []
    with ProcessPoolExecutor(args.workers, context, torch.set_num_threads, (1,)) as pool:
        tops = pool.map(again, [task[1] for task in tasks], [task[3] for task in tasks])
        for (study, run, then, _), now in zip(tasks, tops, strict=True):
            rows.append(row(study, run, then, now))
            told = "inside" if rows[-1]["inside"] else "OUTSIDE"
            print(
                f"{study}: {run.backbone}, {run.variant.title}, seed {run.train.seed}: "
                f"{100 * now:.1f} %, was {100 * then[run.train.seed]:.1f} %, {told} "
                f"[{100 * rows[-1]['low']:.1f}, {100 * rows[-1]['high']:.1f}]",
                flush=True,
            )
    if not rows:
        sys.exit("no run was done again.")
    write(args.out / "again.csv", rows)
    sys.exit(verdict(rows))


def chosen(
    folder: Path, share: float, count: int | None
) -> Iterator[tuple[int, RunSpec, dict[int, float]]]:
    """Runs of a study, evenly spread over it, each with the accuracies of its variant by seed."""
    seeds: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    published, records = read_folder(folder)
    for record in records:
        result = record.result
        if result.top1 is not None:
            seeds[result.backbone, result.variant][result.seed] = result.top1
    written = folder / "study.yaml"
    study = load_study(written) if written.is_file() else published
    runs = [run for run in study.runs if run.train.seed in seeds[run.backbone, run.variant.title]]
    try:
        open_data(runs[0].prepared)
    except AttnzooError as error:
        print(f"{folder.name} is left out: {error}")
        return
    count = max(1, round(share * len(runs))) if count is None else min(count, len(runs))
    for i in range(count):
        at = (2 * i + 1) * len(runs) // (2 * count)
        yield at, runs[at], seeds[runs[at].backbone, runs[at].variant.title]


def again(run: RunSpec, folder: Path) -> float:
    """The top-1 accuracy of a run that is done again."""
    top1 = train(run, folder).top1
    assert top1 is not None
    return top1


def row(study: str, run: RunSpec, then: dict[int, float], now: float) -> dict[str, Any]:
    low, high = one_more(list(then.values()))
    inside = low <= now <= high
    values = (study, run.backbone, run.variant.title, run.train.seed, then[run.train.seed], now)
    return dict(zip(COLUMNS, (*values, low, high, inside), strict=True))


def one_more(values: Sequence[float]) -> tuple[float, float]:
    """The 95% interval for one more value drawn as these were, by Student's t."""
    if len(values) < 2:
        return 0.0, 1.0
    n, mean = len(values), statistics.mean(values)
    half = stats.t.ppf(0.975, n - 1) * statistics.stdev(values) * math.sqrt(1 + 1 / n)
    return mean - half, mean + half


def verdict(rows: Sequence[dict[str, Any]]) -> int:
    """Say how the runs compare; 1 if more lie outside than chance explains."""
    outside = sum(not row["inside"] for row in rows)
    chance = stats.binom.sf(outside - 1, len(rows), 0.05)
    apart = [abs(row["now"] - row["then"]) for row in rows]
    print(
        f"{len(rows)} runs again: {sum(not one for one in apart)} with the same accuracy to the "
        f"last image, mean difference {100 * statistics.mean(apart):.2f} points, {outside} outside "
        f"their interval (as many or more by chance: {chance:.2g})."
    )
    return int(chance < 0.01)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
