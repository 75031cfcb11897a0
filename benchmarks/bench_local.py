"""LocalAttention and the pool behind it on the CPU, against the published formulation.

    make bench

At the shapes of VGG16 in float32. Published: `x * (channel * spatial)`, which writes the product of
the gates at full size. Ours: the same gates, multiplied one after the other. Fused: what
`attnzoo.fuse` makes of it, compiled, with the pool. Copy: of the same map, the least that could be.
"""

from __future__ import annotations

import copy
import statistics
from functools import partial

import torch
from timing import in_turns
from torch import Tensor, nn

import attnzoo
from attnzoo.blocks import LocalAttention

BATCH, ROUNDS = 2, 11
SITES = [(64, 112), (128, 56), (256, 28), (512, 14)]


class Published(LocalAttention):
    """As the code of the article multiplies."""

    def formula(self, x: Tensor) -> Tensor:
        return x * (self.channel_attention(x) * self.spatial_attention(x))


def infer(module: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        module(x)


def train(module: nn.Module, x: Tensor, gradient: Tensor) -> None:
    module(x).backward(gradient)


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"LocalAttention before a 2×2 pool, batch {BATCH}, float32, 1 thread, CPU: ratios of time"
    )
    heads = ("ours/published", "fused/published", "published/copy", "ours/copy", "fused/copy")
    print("".join(["shape".ljust(16), "".ljust(9), *(head.rjust(17) for head in heads)]))
    for channels, side in SITES:
        torch.manual_seed(0)
        published = nn.Sequential(Published(channels), nn.MaxPool2d(2))
        ours = nn.Sequential(LocalAttention(channels), nn.MaxPool2d(2))
        fused = attnzoo.wrap(
            nn.Sequential(nn.Conv2d(channels, channels, 1), nn.MaxPool2d(2)),
            "pre-pool",
            "local",
            start="paper",
            example=(channels, side, side),
        )
        for module in (ours[0], next(iter(attnzoo.attention_modules(fused).values()))):
            module.load_state_dict(copy.deepcopy(published[0].state_dict()))
        fused = attnzoo.fuse(fused)[1:]
        x = torch.randn(BATCH, channels, side, side)
        gradient, leaf = torch.randn(BATCH, channels, side // 2, side // 2), x.clone()
        torch.testing.assert_close(fused(x), published(x))
        modules = {"published": published, "ours": ours, "fused": fused}
        for mode in ("forward", "step"):
            if mode == "step":
                leaf.requires_grad_()
            runs = {
                name: partial(infer, module, x)
                if mode == "forward"
                else partial(train, module, leaf, gradient)
                for name, module in modules.items()
            }
            target = torch.empty_like(x)
            seconds = in_turns({**runs, "copy": partial(target.copy_, x)}, ROUNDS)
            cells = [_ratio(seconds, *head.split("/")).rjust(17) for head in heads]
            print(
                "".join([f"{channels}×{side}×{side}".ljust(16), mode.ljust(9), *cells]), flush=True
            )


def _ratio(seconds: dict[str, list[float]], one: str, other: str) -> str:
    """The median of the rounds' ratios."""
    ratios = [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]
    return f"{statistics.median(ratios):.2f}"


if __name__ == "__main__":
    main()
