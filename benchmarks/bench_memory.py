"""What a training step keeps for its backward pass, by block, over the plain network.

    make bench-memory

Counted tensor by tensor on a CPU, storages once, parameters and buffers aside; batch 2, 128×128.
Beside it the formula written plainly, `x + γ·(x·g₁·g₂ − x)` in PyTorch's own operations, and what
the build before kept, whose sum with γ took two more maps a site.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torchvision
from torch import Tensor, nn

import attnzoo
from attnzoo.blocks.gated import Gated
from attnzoo.hosts import Attention

BATCH, SIDE = 2, 128
NETWORKS: dict[str, tuple[Callable[..., nn.Module], str, float]] = {
    "resnet50 in-residual": (torchvision.models.resnet50, "in-residual", 1.30),
    "vgg16 pre-pool": (torchvision.models.vgg16, "pre-pool", 1.36),
    "resnet18 post-residual": (torchvision.models.resnet18, "post-residual", 1.16),
}
BLOCKS = [
    *("se", "ese", "eca", "local", "cbam", "coord", "scse", "bam", "spatial", "ela", "triplet"),
    *("strip", "srm", "ge", "gct", "lct", "nam", "simam", "sge", "ema", "shuffle", "lka", "lsk"),
    *("gam", "polarized", "local-dynamic"),
]
#: Of the previous build with the identity start, in the order of `NETWORKS`.
BEFORE = {
    "se": (1.52, 1.66, 1.27),
    "local": (1.81, 2.04, 1.42),
    "cbam": (1.78, 2.02, 1.41),
    "coord": (1.85, 2.02, 1.44),
    "simam": (2.28, 2.66, 1.67),
}


def attend_plainly(self: Attention, x: Tensor) -> Tensor:
    """`Attention.forward` as a paper would write it, for autograd to keep what it likes."""
    gates = self.block.gates(x)
    if self.block.added:
        y = sum(x * gate for gate in gates)
    else:
        y = x
        for gate in gates:
            y = y * gate
    return y if self.gamma is None else x + self.gamma.view(-1, 1, 1) * (y - x)


def statistics_plainly(
    x: Tensor, axes: tuple[int, ...], channel: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    z = x if channel is None else x * channel
    return z.mean(axes, keepdim=True), z.amax(axes, keepdim=True)


def call(function: Callable[..., Any], *tensors: Tensor, module: nn.Module | None = None) -> Any:
    return function(*tensors)


@contextmanager
def written_plainly() -> Generator[None]:
    with (
        mock.patch.object(Attention, "forward", attend_plainly),
        mock.patch("attnzoo.kernels.recomputed", call),
        mock.patch("attnzoo.kernels.mean_and_maximum", statistics_plainly),
        mock.patch("attnzoo.kernels.scale_and_shift", return_value=None),
    ):
        yield


def kept_bytes(model: nn.Module, x: Tensor) -> int:
    """Of what a forward pass keeps for the backward pass, parameters and buffers aside."""
    own = [*model.parameters(), *model.buffers()]
    known = {tensor.untyped_storage().data_ptr() for tensor in own}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> None:  # nothing is unpacked: there is no backward pass
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage  # held, so that its place is not used again

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda _: x):
        model(x)
    return sum(storage.nbytes() for storage in kept.values())


def maps(model: nn.Module, x: Tensor) -> int:
    """Bytes of the maps that attention is given."""
    seen: list[int] = []
    handles = [
        module.register_forward_pre_hook(lambda _, args: seen.append(args[0].nbytes))
        for module in model.modules()
        if isinstance(module, Attention)
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return sum(seen)


def main() -> None:
    torch.set_num_threads(1)
    x = torch.randn(BATCH, 3, SIDE, SIDE)
    wanted = sys.argv[1:] or BLOCKS
    print(f"kept for the backward pass, over the plain network; batch {BATCH}, {SIDE}×{SIDE}")
    print("own: what attention keeps beside its x, in maps a site")
    for number, (network, (build, policy, most)) in enumerate(NETWORKS.items()):
        model = build()
        plain = kept_bytes(model, x)
        print(f"\n{network}: {plain / 1e6:.1f} MB; wanted ≤ {most:.2f}")
        print(f"{'block':14}{'identity':>9}{'paper':>8}{'own':>7}{'plainly':>9}{'before':>8}")
        for name in wanted:
            kept = {}
            for start in ("paper", "identity"):
                attnzoo.wrap(model, policy, name, start=start, example=(3, SIDE, SIDE))
                kept[start] = kept_bytes(model, x)
                if start == "identity":
                    whole = maps(model, x)
                    if isinstance(next(iter(attnzoo.attention_modules(model).values())), Gated):
                        with written_plainly():
                            kept["plainly"] = kept_bytes(model, x)
                attnzoo.unwrap(model)
            cells = [f"{kept['identity'] / plain:9.2f}", f"{kept['paper'] / plain:8.2f}"]
            cells.append(f"{(kept['identity'] - plain) / whole - 1:7.2f}")
            cells.append(f"{kept['plainly'] / plain:9.2f}" if "plainly" in kept else " " * 9)
            cells.append(f"{BEFORE[name][number]:8.2f}" if name in BEFORE else "")
            print(f"{name:14}{''.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
