"""The forward pass of a wrapped model against the same network edited by hand.

Hand-edited: VGG16 with LocalAttention in its Sequential, and torchvision's ResNet-50 with a block
class that calls SE before the addition. Both compute the same function on the same weights as the
wrapped ones with start="paper". The γ of start="identity" comes on top and is shown apart. They
take turns on one thread, and freed memory stays with the process; the figure is the median over
the turns with its 95 % interval. Two copies of the network by hand show what of it is noise.
"""

from __future__ import annotations

import copy
from functools import partial

import torch
import torchvision
from timing import in_turns, keep_memory, ratio, summary
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

import attnzoo
from attnzoo.blocks import SqueezeExcitation
from attnzoo.reference import vgg16_with_attention

ROUNDS = 101


class SEBottleneck(Bottleneck):
    """What people write by hand to get SE into ResNet-50."""

    def __init__(self, inplanes: int, planes: int, *args: object, **kwargs: object) -> None:
        super().__init__(inplanes, planes, *args, **kwargs)
        self.se = SqueezeExcitation(planes * self.expansion)

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.se(self.bn3(self.conv3(out)))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


def pairs() -> dict[str, tuple[nn.Module, nn.Module, nn.Module, Tensor]]:
    models = torchvision.models
    vgg = models.vgg16
    resnet_by_hand = ResNet(SEBottleneck, [3, 4, 6, 3])
    return {
        "vgg16, pre-pool × local": (
            vgg16_with_attention(),
            attnzoo.wrap(vgg(), "pre-pool", "local", start="paper"),
            attnzoo.wrap(vgg(), "pre-pool", "local"),
            torch.randn(1, 3, 96, 96),
        ),
        "resnet50, in-residual × se": (
            resnet_by_hand,
            attnzoo.wrap(models.resnet50(), "in-residual", "se", start="paper"),
            attnzoo.wrap(models.resnet50(), "in-residual", "se"),
            torch.randn(1, 3, 128, 128),
        ),
    }


@torch.inference_mode()
def main() -> None:
    keep_memory()
    torch.set_num_threads(1)  # threads that wait for each other would be all the noise
    for name, (by_hand, paper, identity, x) in pairs().items():
        models = {
            "by hand": by_hand,
            "again": copy.deepcopy(by_hand),
            "wrapped": paper,
            "with γ": identity,
        }
        seconds = in_turns({run: partial(model.eval(), x) for run, model in models.items()}, ROUNDS)
        print(f"{name}, {tuple(x.shape)}, float32")
        by_hand_seconds = seconds.pop("by hand")
        print(f"  by hand {summary(by_hand_seconds)}")
        for run, taken in seconds.items():
            middle, low, high = ratio(taken, by_hand_seconds)
            print(f"  {run:8}{summary(taken)}  ratio {middle:.3f}  ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
