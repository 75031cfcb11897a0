"""The page of one policy, in English or Chinese: what it finds, drawn on networks."""

from __future__ import annotations

import json
import zlib
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import yaml
from shared import Language, figure, table, written
from torch import nn

import attnzoo
from attnzoo.backbones import create_backbone
from attnzoo.cli.catalogue import describe
from attnzoo.errors import NoSitesError
from attnzoo.registry import PolicySpec

TRANSLATED = Path(__file__).parent / "policies.yaml"


class _UNet(nn.Module):
    """A U-Net of three levels, as they are written by hand."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128)
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(_twice(a, b) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in reversed(pairs[1:]))
        self.join = nn.ModuleList(_twice(2 * a, a) for a, _ in reversed(pairs[1:]))
        self.classes = nn.Conv2d(widths[1], 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        for number, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if number else x)
            kept.append(x)
        for up, join, skip in zip(self.up, self.join, kept[-2::-1], strict=True):
            x = join(torch.cat([skip, up(x)], 1))
        return self.classes(x)


def _twice(before: int, after: int) -> nn.Sequential:
    convolutions = (nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1))
    return nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU())


NETWORKS = {
    "VGG16": "torchvision/vgg16",
    "ResNet-50": "torchvision/resnet50",
    "DenseNet-121": "torchvision/densenet121",
    "EfficientNet-B0": "torchvision/efficientnet_b0",
}
#: Where none of the four has a place for a policy: others, and one that is written by hand.
OTHERS = {
    "Faster R-CNN": "torchvision/fasterrcnn_resnet50_fpn",
    "CSPDarkNet-53": "timm/cspdarknet53",
    "U-Net": "",
}
#: Places that are told to those who do not see the drawing.
MANY = 8
#: A policy that must be told something.
GIVEN: dict[str, dict[str, Any]] = {
    "match": {"pattern": "features.*", "type": "Conv2d", "every": 3}
}
WORDS: dict[str, dict[Language, str]] = {
    "from": {"en": "Source: {}.", "zh": "来源：{}。"},
    "options": {"en": "Options", "zh": "选项"},
    "option": {"en": "option", "zh": "选项"},
    "default": {"en": "default", "zh": "默认值"},
    "meaning": {"en": "meaning", "zh": "含义"},
    "filters": {
        "en": "Every policy also takes the [common filters](../policies.md).",
        "zh": "所有策略都接受[通用筛选项](../policies.md)。",
    },
    "use": {"en": "Use", "zh": "用法"},
    "places": {"en": "Its places", "zh": "位置"},
    "drawn": {
        "en": "Drawn by `attnzoo.plan(…).draw()` when this site is built; the block is `se`.",
        "zh": "由 `attnzoo.plan(…).draw()` 在生成本站时画出；模块为 `se`。",
    },
    "alt": {
        "en": "{}: {} places of the policy {}: {}",
        "zh": "{}：{} 个位置（策略 {}）：{}",
    },
    "none": {"en": "No place in {}.", "zh": "{} 中没有位置。"},
    "listed": {"en": "{}: {}", "zh": "{}：{}"},
}


@cache
def translated() -> dict[str, dict[str, Any]]:
    """Policy → what is said of it in Chinese."""
    return yaml.safe_load(TRANSLATED.read_text("utf-8"))


def checksum(spec: PolicySpec) -> str:
    """Of the English that the Chinese page of a policy says too."""
    explained = describe(spec.find)[1]
    said = [spec.summary, notes(spec), *(explained[name] for name in spec.options)]
    return f"{zlib.crc32(' '.join(' '.join(said).split()).encode()):08x}"


def notes(spec: PolicySpec) -> str:
    """The docstring behind its first line."""
    return describe(spec.find)[0].partition("\n")[2].strip()


def policy_page(spec: PolicySpec, tongue: Language) -> str:
    """The whole page as Markdown."""

    def word(key: str) -> str:
        return WORDS[key][tongue]

    chinese = translated()[spec.name] if tongue == "zh" else {}
    summary = chinese.get("summary", spec.summary)
    lines = [
        f"---\ntitle: {spec.name}\ndescription: >-\n  {summary}\n---",
        f"# `{spec.name}`",
        f"**{summary}**",
        chinese["notes"].strip() if chinese else notes(spec),
        word("from").format(spec.source) if spec.source else "",
        f"## {word('use')} {{ #use }}",
        _usage(spec),
        f"## {word('options')} {{ #options }}",
        _options(spec, tongue),
        word("filters"),
        f"## {word('places')} {{ #places }}",
        word("drawn"),
    ]
    found = places(spec.name)
    for network, (places_there, svg) in found.items():
        listed = ", ".join(places_there[:MANY]) + (", …" if len(places_there) > MANY else "")
        alt = word("alt").format(network, len(places_there), spec.name, listed)
        lines += [f"### {network}", figure(svg, alt)]
    missing = [name for name in NETWORKS if name not in found]
    if missing:
        lines.append(word("none").format((", " if tongue == "en" else "、").join(missing)))
    return "\n\n".join(line for line in lines if line) + "\n"


@cache
def places(policy: str) -> dict[str, tuple[list[str], str]]:
    """Network → the places that the policy finds there, and the drawing of them."""
    found = {title: _drawn(policy, name) for title, name in NETWORKS.items()}
    if not any(found.values()):
        found |= {title: _drawn(policy, name) for title, name in OTHERS.items()}
    return {name: drawn for name, drawn in found.items() if drawn}


def _drawn(policy: str, name: str) -> tuple[list[str], str] | None:
    with torch.device("meta"):
        network = create_backbone(name) if name else _UNet()
    try:
        plan = attnzoo.plan(network, (policy, GIVEN.get(policy, {})), "se")
    except NoSitesError:
        return None
    return [str(site) for site in plan.sites], plan.draw()


def _usage(spec: PolicySpec) -> str:
    given = GIVEN.get(spec.name)
    policy = f"({written(spec.name)}, {json.dumps(given)})" if given else written(spec.name)
    name = (NETWORKS | OTHERS)[next(iter(places(spec.name)))]
    wrap = f'attnzoo.wrap(model, policy={policy}, block="se")'
    if not name:
        return f"<!-- skip: next -->\n\n```python\n{wrap}\n```"
    lines = ["import attnzoo", "from attnzoo.backbones import create_backbone", ""]
    lines += [f'model = create_backbone("{name}")', wrap]
    return "\n".join(["```python", *lines, "```"])


def _options(spec: PolicySpec, tongue: Language) -> str:
    explained = describe(spec.find)[1]
    if tongue == "zh":
        explained = translated()[spec.name].get("options", {})
    rows = [
        (f"`{name}`", f"`{written(default)}`", explained[name])
        for name, default in spec.options.items()
    ]
    heads = [WORDS[key][tongue] for key in ("option", "default", "meaning")]
    return table(heads, rows) if rows else ""
