"""What a training step keeps for its backward pass, by block, over the plain network.

    make bench-memory

Counted tensor by tensor on a CPU, storages once, parameters and buffers aside; batch 2, 128×128.
Beside it the formula written plainly, `x + γ·(x·g₁·g₂ − x)` in PyTorch's own operations, and what
the build of July 2026 kept, whose sum with γ took two more maps a site.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
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


class Plainly(nn.Module):
    """The attention as a paper would write it, for autograd to keep what it likes."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.block, self.gamma = attention.block, attention.gamma

    def forward(self, x: Tensor) -> Tensor:
        gates = self.block.gates(x)
        if self.block.added:
            y = sum(x * gate for gate in gates)
        else:
            y = x
            for gate in gates:
                y = y * gate
        return y if self.gamma is None else x + self.gamma.view(-1, 1, 1) * (y - x)


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


def written_plainly(model: nn.Module) -> nn.Module:
    """The wrapped model with every attention replaced by its formula."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, Attention):
                parent._modules[name] = Plainly(child)
    return model


def main() -> None:
    torch.set_num_threads(1)
    x = torch.randn(BATCH, 3, SIDE, SIDE)
    wanted = sys.argv[1:] or BLOCKS
    print(f"kept for the backward pass, over the plain network; batch {BATCH}, {SIDE}×{SIDE}")
    print("own: what attention keeps beside its x, in maps a site")
    for network, (build, policy, most) in NETWORKS.items():
        plain = kept_bytes(build(), x)
        print(f"\n{network}: {plain / 1e6:.1f} MB; wanted ≤ {most:.2f}")
        print(f"{'block':14}{'identity':>9}{'paper':>8}{'own':>7}{'plainly':>9}{'before':>8}")
        for name in wanted:
            identity = attnzoo.wrap(build(), policy, name, example=(3, SIDE, SIDE))
            paper = attnzoo.wrap(build(), policy, name, start="paper", example=(3, SIDE, SIDE))
            with mock.patch(
                "attnzoo.kernels.recomputed", lambda function, *given: function(*given)
            ):
                formula = attnzoo.wrap(build(), policy, name, example=(3, SIDE, SIDE))
                formula = kept_bytes(written_plainly(formula), x) if is_gated(formula) else None
            own = (kept_bytes(identity, x) - plain) / maps(identity, x) - 1
            ratios = [kept_bytes(model, x) / plain for model in (identity, paper)]
            before = BEFORE.get(name)
            cells = [f"{ratios[0]:9.2f}", f"{ratios[1]:8.2f}", f"{own:7.2f}"]
            cells.append(f"{formula / plain:9.2f}" if formula else f"{'':9}")
            cells.append(f"{before[list(NETWORKS).index(network)]:8.2f}" if before else "")
            print(f"{name:14}{''.join(cells)}", flush=True)


def is_gated(model: nn.Module) -> bool:
    return any(isinstance(module, Gated) for module in model.modules())


if __name__ == "__main__":
    main()
