"""The forward pass of a wrapped model against the same network edited by hand.

Hand-edited: VGG16 with LocalAttention in its Sequential, and torchvision's ResNet-50 with a block
class that calls SE before the addition. Both compute the same function on the same weights as the
wrapped ones with start="paper". The γ of start="identity" comes on top and is shown apart.
"""

from __future__ import annotations

import statistics
from functools import partial

import torch
import torchvision
from timing import in_turns, summary
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

import attnzoo
from attnzoo.blocks import SqueezeExcitation
from attnzoo.reference import vgg16_with_attention

ROUNDS = 21


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
            torch.randn(2, 3, 128, 128),
        ),
        "resnet50, in-residual × se": (
            resnet_by_hand,
            attnzoo.wrap(models.resnet50(), "in-residual", "se", start="paper"),
            attnzoo.wrap(models.resnet50(), "in-residual", "se"),
            torch.randn(4, 3, 128, 128),
        ),
    }


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(2)
    for name, (by_hand, paper, identity, x) in pairs().items():
        models = {"by hand": by_hand.eval(), "wrapped": paper.eval(), "with γ": identity.eval()}
        seconds = in_turns({run: partial(model, x) for run, model in models.items()}, ROUNDS)
        print(f"{name}, {tuple(x.shape)}, float32")
        for run, taken in seconds.items():
            ratios = [a / b for a, b in zip(taken, seconds["by hand"], strict=True)]
            print(f"  {run:8}{summary(taken)}  ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
