"""How many places each family's own policy finds: the counts that the papers give."""

from __future__ import annotations

import pytest
import torch

from attnzoo.backbones import create_backbone
from attnzoo.policies.selection import PolicyCall, select
from attnzoo.tracing.probe import probe

RESNETS = {18: 8, 34: 16, 50: 16, 101: 33, 152: 50}
EFFICIENTNETS = {0: 16, 1: 23, 2: 23, 3: 26, 4: 32, 5: 39, 6: 45, 7: 55}

#: backbone → policy → number of places. Where a paper gives them as a table of repeats, their sum.
EXPECTED: dict[str, dict[str, int]] = {
    # Simonyan, Zisserman (2014): five pools in every configuration
    **{f"torchvision/vgg{d}": {"pre-pool": 5, "auto": 5} for d in (11, 13, 16, 19)},
    **{f"torchvision/vgg{d}_bn": {"pre-pool": 5} for d in (11, 13, 16, 19)},
    "timm/vgg16_bn": {"pre-pool": 5},
    # He, Zhang, Ren, Sun (2015), table 1
    **{
        f"{library}/resnet{d}": {"post-residual": n, "in-residual": n, "auto": n}
        for library in ("torchvision", "timm")
        for d, n in RESNETS.items()
    },
    # Xie et al. (2017), Zagoruyko, Komodakis (2016): the blocks of ResNet
    "torchvision/resnext50_32x4d": {"post-residual": 16, "in-residual": 16},
    "torchvision/resnext101_32x8d": {"post-residual": 33, "in-residual": 33},
    "torchvision/wide_resnet50_2": {"post-residual": 16, "in-residual": 16},
    "timm/seresnet50": {"post-residual": 16, "in-residual": 16},
    # Radosavovic et al. (2020), tables 5 and 6: depths 13, 16, 22; 13, 16
    "timm/regnetx_002": {"post-residual": 13, "in-residual": 13},
    "timm/regnetx_006": {"post-residual": 16, "in-residual": 16},
    "timm/regnetx_004": {"post-residual": 22, "in-residual": 22},
    "timm/regnety_002": {"post-residual": 13, "in-residual": 13},
    "torchvision/regnet_y_400mf": {"post-residual": 16, "in-residual": 16},
    # Zhang et al. (2020); Gao et al. (2019)
    "timm/resnest14d": {"post-residual": 4, "in-residual": 4},
    "timm/resnest50d": {"post-residual": 16, "in-residual": 16},
    "timm/resnest101e": {"post-residual": 33, "in-residual": 33},
    "timm/res2net50_26w_4s": {"post-residual": 16, "in-residual": 16},
    "timm/res2next50": {"post-residual": 16, "in-residual": 16},
    # Huang, Liu, van der Maaten, Weinberger (2017): three between four dense blocks
    **{f"torchvision/densenet{d}": {"transition": 3, "auto": 3} for d in (121, 161, 169, 201)},
    "timm/densenet121": {"transition": 3},
    # Kim, Heo, Han (2024): RDNet-T, 7 stages
    "timm/rdnet_tiny": {"transition": 6, "auto": 6},
    # Tan, Le (2019), table 1 scaled by the depth coefficient
    **{
        f"torchvision/efficientnet_b{d}": {"mbconv": n, "auto": n} for d, n in EFFICIENTNETS.items()
    },
    "timm/efficientnet_b0": {"mbconv": 16},
    "timm/mixnet_s": {"mbconv": 16},
    # Sandler et al. (2018), table 2; Tan et al. (2019), figure 7, without the separable stem
    "torchvision/mobilenet_v2": {"mbconv": 17, "auto": 17},
    "timm/mobilenetv2_100": {"mbconv": 17},
    "torchvision/mnasnet1_0": {"mbconv": 16},
    # Howard et al. (2019), tables 1 and 2
    "torchvision/mobilenet_v3_large": {"mbconv": 15, "auto": 15},
    "torchvision/mobilenet_v3_small": {"mbconv": 11},
    "timm/mobilenetv3_large_100": {"mbconv": 15},
    # Qin et al. (2024): universal inverted bottlenecks of the convolutional models
    "timm/mobilenetv4_conv_small": {"mbconv": 12},
    "timm/mobilenetv4_conv_medium": {"mbconv": 21, "auto": 21},
    "timm/mobilenetv4_conv_large": {"mbconv": 26},
    # Zoph et al. (2018), 6 @ 4032: 18 normal, 2 reduction, 2 stem cells; Liu et al. (2018)
    "timm/nasnetalarge": {"post-residual": 22},
    "timm/pnasnet5large": {"post-residual": 14},
}


@pytest.mark.no_cover
@pytest.mark.parametrize("name", EXPECTED)
def test_places_of_the_familys_own_policy(name: str) -> None:
    try:
        with torch.device("meta"):
            model = create_backbone(name)
    except NotImplementedError:  # torchvision's RegNets read a tensor while they are built
        model = create_backbone(name)
    trace = probe(model)
    found = {policy: len(select(trace, PolicyCall(policy)).sites) for policy in EXPECTED[name]}
    assert found == EXPECTED[name]
