"""How long `attnzoo.wrap` takes beside another build of attnzoo, in turns in one run.

    git archive 305edfb attnzoo | tar x -C /tmp/before    # or any other revision
    make bench-wrap BEFORE=/tmp/before

Each build lives in a process of its own, which wraps one fresh copy of a network at a time while
the other waits. The ratios are those of neighbouring turns, in the processor's time, with 95 %
intervals of their medians. Networks of packages that are not installed are left out: yolo11n is
from ultralytics, which comes with the extra `dev`, UNet from MONAI, which no extra brings.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
import torchvision
from timing import ratio
from torch import nn

HERE = Path(__file__).resolve().parents[1]


def yolo11n() -> nn.Module:
    from ultralytics import YOLO

    return YOLO("yolo11n.yaml").model


def monai_unet() -> nn.Module:
    from monai.networks.nets import UNet

    widths, strides = (16, 32, 64, 128, 256), (2, 2, 2, 2)
    return UNet(2, 3, 2, channels=widths, strides=strides, num_res_units=2)


NETWORKS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "resnet152": ("torchvision", torchvision.models.resnet152),
    "densenet201": ("torchvision", torchvision.models.densenet201),
    "yolo11n": ("ultralytics", yolo11n),
    "unet": ("monai", monai_unet),
}


class Worker:
    """A process that wraps networks with the build in a folder, when it is told to."""

    def __init__(self, folder: Path) -> None:
        paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.ask("where") != str(folder / "attnzoo" / "__init__.py"):
            raise SystemExit(f"{folder} holds no package attnzoo")

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def seconds(self, network: str, block: str) -> float:
        answer = self.ask(f"{network} {block}")
        if not answer:
            raise SystemExit(f"wrapping {network} with {block} failed; see above")
        return float(answer)


def work() -> None:
    """Answer every line of input: a network and a block with the seconds that `wrap` takes."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what packages print is no answer
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    torch.set_num_threads(1)
    import attnzoo

    made: dict[str, nn.Module] = {}
    for line in sys.stdin:
        if line.strip() == "where":
            print(Path(attnzoo.__file__).resolve(), file=answers, flush=True)
            continue
        network, block = line.split()
        if network not in made:
            made[network] = NETWORKS[network][1]()
        model = copy.deepcopy(made[network])
        begin = time.process_time()
        attnzoo.wrap(model, block=block)
        print(time.process_time() - begin, file=answers, flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description="see the head of the file")
    arguments.add_argument("before", type=Path, nargs="?", help="folder that holds the other build")
    arguments.add_argument("networks", nargs="*", help="all of " + ", ".join(NETWORKS))
    arguments.add_argument("--blocks", nargs="+", default=["local", "se"])
    arguments.add_argument("--rounds", type=int, default=31)
    arguments.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.work:
        work()
        return
    if given.before is None:
        raise SystemExit("name the folder of the other build, as the head of the file shows")
    workers = [Worker(HERE), Worker(given.before.resolve())]
    print("now / before, seconds of wrap on one thread")
    for name in given.networks or NETWORKS:
        if find_spec(NETWORKS[name][0]) is None:
            print(f"{name:14}left out: {NETWORKS[name][0]} is not installed")
            continue
        for block in given.blocks:
            taken: list[list[float]] = [[], []]
            for number in range(given.rounds + 1):
                for index in (0, 1) if number % 2 else (1, 0):
                    seconds = workers[index].seconds(name, block)
                    if number:  # the first round warms up
                        taken[index].append(seconds)
            middle, low, high = ratio(*taken)
            times = " and ".join(f"{statistics.median(part) * 1e3:.0f}" for part in taken)
            figures = f"{middle:4.2f} ({low:4.2f} to {high:4.2f}), {times} ms"
            print(f"{name:14}{block:8}{figures}", flush=True)


if __name__ == "__main__":
    main()
