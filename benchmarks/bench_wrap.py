"""How long `attnzoo.wrap` takes, against LoRA injected by peft into the same model's convolutions.

Both change a fresh model in place; building it is not timed. The probe and the check after surgery
are part of `wrap`.
"""

from __future__ import annotations

import statistics
import time
from functools import partial

import torch
import torchvision
from peft import LoraConfig, inject_adapter_in_model
from timing import summary
from torch import nn

import attnzoo

ROUNDS = 9


def lora(model: nn.Module) -> None:
    convolutions = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    inject_adapter_in_model(LoraConfig(r=8, target_modules=convolutions), model)


def main() -> None:
    torch.set_num_threads(2)
    for name in ("resnet152", "densenet201"):
        build = getattr(torchvision.models, name)
        runs = {
            "wrap local": attnzoo.wrap,
            "wrap se": partial(attnzoo.wrap, block="se"),
            "plan": attnzoo.plan,
            "lora": lora,
        }
        seconds: dict[str, list[float]] = {run: [] for run in runs}
        for number in range(ROUNDS + 1):
            for run, change in runs.items():
                model = build()
                begin = time.perf_counter()
                change(model)
                if number:  # the first round warms up
                    seconds[run].append(time.perf_counter() - begin)
        sites = len(attnzoo.plan(build()).sites)
        print(f"{name}: {sites} sites of policy auto")
        for run, taken in seconds.items():
            ratios = [a / b for a, b in zip(taken, seconds["lora"], strict=True)]
            print(f"  {run:10}{summary(taken)}  / lora: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
