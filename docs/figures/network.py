"""VGG16 with its planned attention, drawn from what `attnzoo.plan` says."""

from __future__ import annotations

import torch
import torchvision

import attnzoo
from attnzoo.surgery.svg import Drawing

CENTRE = 118
GAP = 6


def vgg16_plan() -> Drawing:
    """Each convolution, pool and planned block of VGG16; heights follow the resolution."""
    with torch.device("meta"):
        model = torchvision.models.vgg16()
    plan = attnzoo.plan(model, policy="pre-pool", block="local", start="paper")
    rows = {row.site.path: row for row in plan.rows}

    d = Drawing(900, 268)
    d.text(14, CENTRE + 5, "image", "small bold", anchor="start")
    d.arrow((62, CENTRE), (104, CENTRE))
    x, begins, height, channels = 110.0, 110.0, 224, 3
    for name, layer in model.features.named_children():
        path = f"features.{name}"
        if path in rows:
            row = rows[path]
            high = extent(height) + 14
            d.slab(x, CENTRE - high / 2, 17, high, "attention")
            middle = (begins + x + 17) / 2
            d.text(middle, 226, f"{row.site.channels} × {height}²", "small")
            d.text(middle, 243, f"+{row.parameters:,}", "small accent bold")
            x += 17 + GAP
        if isinstance(layer, torch.nn.Conv2d):
            channels = layer.out_channels
            wide = 10 + channels / 34
            d.slab(x, CENTRE - extent(height) / 2, wide, extent(height), "map")
            x += wide + GAP
        elif isinstance(layer, torch.nn.MaxPool2d):
            height //= 2
            d.slab(x, CENTRE - extent(height) / 2, 9, extent(height), "pool")
            d.arrow((x + 11, CENTRE), (x + 35, CENTRE))
            x = begins = x + 38
    d.box(x, CENTRE - 24, 74, 48, "classifier", style="small")
    d.text(14, 226, "feature map", "small soft", anchor="start")
    d.text(14, 243, "parameters", "small soft", anchor="start")
    plain = sum(parameter.numel() for parameter in model.parameters())
    d.text(x + 37, 243, f"+{plan.parameters / plain:.2%}", "small accent bold")
    d.text(x + 37, 226, "in all", "small soft")
    return d


def extent(height: int) -> float:
    """How tall a map of this height is drawn: compressed, so that 7 and 224 fit together."""
    return 34 * (height / 7) ** 0.42
