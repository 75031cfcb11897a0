"""Each block against a reference of its own: timm's layer, or the paper's formula written out."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from formulas import Weights, mean_hw, per_channel, randomised, standardised
from torch import Tensor
from torch.nn import functional as F

both_modes = pytest.mark.parametrize("training", [True, False])


# ------------------------------------------------------------------------------ the formulas


def gct(x: Tensor, w: Weights) -> Tensor:
    """The paper's equations, with √C as it stands there."""
    alpha, beta, gamma = (per_channel(w[f"gate.{name}"]) for name in ("alpha", "beta", "gamma"))
    s = alpha * (x.pow(2).sum((2, 3), keepdim=True) + 1e-5).pow(0.5)
    channels = x.shape[1]
    normalised = math.sqrt(channels) * s / (s.pow(2).sum(1, keepdim=True) + channels * 1e-5).sqrt()
    return x * (1 + torch.tanh(gamma * normalised + beta))


def srm(x: Tensor, w: Weights) -> Tensor:
    flat = x.flatten(2)
    mean = flat.mean(2)
    deviation = ((flat - mean[:, :, None]).pow(2).mean(2) + 1e-5).sqrt()
    style = torch.stack([mean, deviation], dim=2)  # (N, C, 2)
    encoded = (style * w["gate.style_weight"][:, :, 0, 0].t()).sum(2)
    return x * torch.sigmoid(w.batch_norm("gate.norm", encoded[:, :, None, None]))


def lct(groups: int) -> Callable[[Tensor, Weights], Tensor]:
    def formula(x: Tensor, w: Weights) -> Tensor:
        z = mean_hw(x).view(x.shape[0], groups, -1)
        v = standardised(z, (2,)).view(x.shape[0], -1, 1, 1)
        a = per_channel(w["gate.norm.weight"]) * v + per_channel(w["gate.norm.bias"])
        return x * torch.sigmoid(a)

    return formula


def gather_excite(variant: str, extent: int | None) -> Callable[[Tensor, Weights], Tensor]:
    """`extent=None` is the global one; its convolution is as large as the map."""

    def formula(x: Tensor, w: Weights) -> Tensor:
        channels = x.shape[1]
        if variant == "minus":
            area = F.avg_pool2d(torch.ones_like(x), 2 * extent - 1, extent, extent - 1)
            gathered = F.avg_pool2d(x, 2 * extent - 1, extent, extent - 1) / area
        elif extent is None:
            gathered = F.conv2d(x, w["gate.gather.weight"], groups=channels)
            gathered = w.batch_norm("gate.gather.norm", gathered)
        else:
            gathered = x
            for step in range(int(math.log2(extent))):
                layer = f"gate.gather.{2 * step}"
                gathered = F.relu(gathered) if step else gathered
                gathered = w.conv(f"{layer}.conv", gathered, stride=2, padding=1, groups=channels)
                gathered = w.batch_norm(f"{layer}.norm", gathered)
        if variant == "plus":
            hidden = w.dense("gate.excite.0", gathered).clamp(min=0)
            gathered = w.dense("gate.excite.2", hidden)
        rows = torch.arange(x.shape[2]) * gathered.shape[2] // x.shape[2]
        columns = torch.arange(x.shape[3]) * gathered.shape[3] // x.shape[3]
        return x * torch.sigmoid(gathered[:, :, rows][:, :, :, columns])

    return formula


def simam(x: Tensor, w: Weights) -> Tensor:
    """The authors' code."""
    n = x.shape[2] * x.shape[3] - 1
    d = (x - x.mean((2, 3), keepdim=True)).pow(2)
    v = d.sum((2, 3), keepdim=True) / n
    return x * torch.sigmoid(d / (4 * (v + 1e-4)) + 0.5)


def sge(groups: int) -> Callable[[Tensor, Weights], Tensor]:
    def formula(x: Tensor, w: Weights) -> Tensor:
        n, _, height, width = x.shape
        group = x.reshape(n * groups, -1, height, width)
        c = torch.einsum("nchw,nc->nhw", group, group.mean((2, 3)))
        mu = c.mean((1, 2), keepdim=True)
        sigma = (c - mu).pow(2).mean((1, 2), keepdim=True).sqrt()
        c = ((c - mu) / (sigma + 1e-5)).view(n, groups, height, width)
        c = c * w["gate.weight"] + w["gate.bias"]
        return (group * torch.sigmoid(c).view(n * groups, 1, height, width)).view(x.shape)

    return formula


def bam(dilation: int) -> Callable[[Tensor, Weights], Tensor]:
    def formula(x: Tensor, w: Weights) -> Tensor:
        channel = w.batch_norm("gate.channel.1.norm", w.dense("gate.channel.1.conv", mean_hw(x)))
        channel = w.dense("gate.channel.3", channel.clamp(min=0))
        spatial = w.dense("gate.spatial.0.conv", x)
        spatial = w.batch_norm("gate.spatial.0.norm", spatial).clamp(min=0)
        for layer in ("gate.spatial.2", "gate.spatial.4"):
            spatial = w.conv(f"{layer}.conv", spatial, padding=dilation, dilation=dilation)
            spatial = w.batch_norm(f"{layer}.norm", spatial).clamp(min=0)
        spatial = w.dense("gate.spatial.6", spatial)
        m = torch.sigmoid(channel.expand_as(x) + spatial.expand_as(x))
        return x + x * m

    return formula


def scse(x: Tensor, w: Weights) -> Tensor:
    hidden = w.dense("channel_gate.fc1", mean_hw(x)).clamp(min=0)
    channel = torch.sigmoid(w.dense("channel_gate.fc2", hidden))
    spatial = torch.sigmoid(w.dense("spatial_gate.conv", x))
    return x * channel + x * spatial


def ela(groups: int, padding: int) -> Callable[[Tensor, Weights], Tensor]:
    """The authors' code."""

    def formula(x: Tensor, w: Weights) -> Tensor:
        n, channels = x.shape[:2]

        def along(means: Tensor) -> Tensor:
            y = F.conv1d(means, w["gate.conv.weight"], padding=padding, groups=channels)
            y = standardised(y.reshape(n, groups, -1), (2,)).view(y.shape)
            y = y * w["gate.norm.weight"][:, None] + w["gate.norm.bias"][:, None]
            return torch.sigmoid(y)

        return x * along(x.mean(3))[:, :, :, None] * along(x.mean(2))[:, :, None, :]

    return formula


def strip(x: Tensor, w: Weights) -> Tensor:
    """The authors' SPBlock, which expands before it adds."""
    rows = w.conv("gate.rows.conv", x.mean(3, keepdim=True), padding=(1, 0))
    rows = w.batch_norm("gate.rows.norm", rows).expand_as(x)
    columns = w.conv("gate.columns.conv", x.mean(2, keepdim=True), padding=(0, 1))
    columns = w.batch_norm("gate.columns.norm", columns).expand_as(x)
    return x * torch.sigmoid(w.dense("gate.fuse", (rows + columns).clamp(min=0)))


def triplet(padding: int) -> Callable[[Tensor, Weights], Tensor]:
    """Rotated, pooled over the first axis, gated and rotated back, as the paper draws it."""

    def formula(x: Tensor, w: Weights) -> Tensor:
        def branch(rotated: Tensor, path: str) -> Tensor:
            pooled = [rotated.max(1, keepdim=True).values, rotated.mean(1, keepdim=True)]
            kernel = w[f"{path}.conv.weight"]
            kernel = kernel.transpose(2, 3) if path == "gate.channel_height" else kernel
            logits = F.conv2d(torch.cat(pooled, 1), kernel, padding=padding)
            return rotated * torch.sigmoid(w.batch_norm(f"{path}.norm", logits))

        plain = branch(x, "gate.height_width")
        by_width = branch(x.permute(0, 2, 1, 3), "gate.channel_width").permute(0, 2, 1, 3)
        by_height = branch(x.permute(0, 3, 2, 1), "gate.channel_height").permute(0, 3, 2, 1)
        return (plain + by_width + by_height) / 3

    return formula


def shuffle(groups: int) -> Callable[[Tensor, Weights], Tensor]:
    """The authors' code, whose GroupNorm has as many groups as channels."""

    def formula(x: Tensor, w: Weights) -> Tensor:
        n, channels, height, width = x.shape
        first, second = x.reshape(n * groups, -1, height, width).chunk(2, dim=1)
        gate = w["gate.channel_weight"] * mean_hw(first) + w["gate.channel_bias"]
        first = first * torch.sigmoid(gate)
        gate = standardised(second, (2, 3)) * per_channel(w["gate.norm.weight"])
        gate = gate + per_channel(w["gate.norm.bias"])
        gate = w["gate.spatial_weight"] * gate + w["gate.spatial_bias"]
        second = second * torch.sigmoid(gate)
        out = torch.cat([first, second], dim=1).reshape(n, 2, channels // 2, height, width)
        return out.permute(0, 2, 1, 3, 4).reshape(x.shape)

    return formula


def polarized(mode: str) -> Callable[[Tensor, Weights], Tensor]:
    """The paper's equations in its own order: every layer at every position first."""

    def channel(x: Tensor, w: Weights) -> Tensor:
        value = w.dense("channel_gate.value", x).flatten(2)
        query = w.dense("channel_gate.query", x).flatten(2).softmax(2)
        z = torch.einsum("nhp,nqp->nhq", value, query)[..., None]
        logits = F.layer_norm(
            w.dense("channel_gate.expand", z).flatten(1),
            (x.shape[1],),
            w["channel_gate.norm.weight"],
            w["channel_gate.norm.bias"],
        )
        return torch.sigmoid(logits)[:, :, None, None]

    def spatial(x: Tensor, w: Weights) -> Tensor:
        query = mean_hw(w.dense("spatial_gate.query", x)).softmax(1)
        value = w.dense("spatial_gate.value", x)
        return torch.sigmoid((query * value).sum(1, keepdim=True))

    def formula(x: Tensor, w: Weights) -> Tensor:
        z = x * channel(x, w)
        return z + x * spatial(x, w) if mode == "parallel" else z * spatial(z, w)

    return formula


def gam(x: Tensor, w: Weights) -> Tensor:
    flat = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])
    for layer in ("fc1", "fc2"):
        weight = w[f"channel_gate.{layer}.weight"][:, :, 0, 0]
        flat = F.linear(flat, weight, w[f"channel_gate.{layer}.bias"])
        flat = F.relu(flat) if layer == "fc1" else flat
    gate = flat.view(x.shape[0], *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)
    x = x * torch.sigmoid(gate)
    hidden = w.conv("spatial_gate.reduce.conv", x, padding=3)
    hidden = w.batch_norm("spatial_gate.reduce.norm", hidden).clamp(min=0)
    logits = w.conv("spatial_gate.expand.conv", hidden, padding=3)
    return x * torch.sigmoid(w.batch_norm("spatial_gate.expand.norm", logits))


def nam(x: Tensor, w: Weights) -> Tensor:
    gamma = w["gate.norm.weight"].abs()
    normalised = w.batch_norm("gate.norm", x).permute(0, 2, 3, 1)
    return x * torch.sigmoid((gamma / gamma.sum() * normalised).permute(0, 3, 1, 2))


def ema(groups: int) -> Callable[[Tensor, Weights], Tensor]:
    """The authors' code, in the order of its lines."""

    def formula(x: Tensor, w: Weights) -> Tensor:
        n, _, height, width = x.shape
        group = x.reshape(n * groups, -1, height, width)
        strips = torch.cat([group.mean(3), group.mean(2)], dim=2)[..., None]
        strips = torch.sigmoid(w.dense("gate.strip_conv", strips))
        rows, columns = strips.split([height, width], dim=2)
        coarse = standardised(group * rows * columns.transpose(2, 3), (2, 3))
        coarse = coarse * per_channel(w["gate.norm.weight"]) + per_channel(w["gate.norm.bias"])
        fine = w.conv("gate.local_conv", group, padding=1)
        logits = (mean_hw(coarse).softmax(1) * fine).sum(1, keepdim=True)
        logits = logits + (mean_hw(fine).softmax(1) * coarse).sum(1, keepdim=True)
        return (group * torch.sigmoid(logits)).view(x.shape)

    return formula


def far(path: str, x: Tensor, w: Weights) -> Tensor:
    return w.conv(path, x, padding=9, dilation=3, groups=x.shape[1])


def lka(x: Tensor, w: Weights) -> Tensor:
    near = w.conv("attention.near", x, padding=2, groups=x.shape[1])
    return x * w.dense("attention.mix", far("attention.far", near, w))


def lsk(x: Tensor, w: Weights) -> Tensor:
    first = w.conv("attention.near", x, padding=2, groups=x.shape[1])
    second = w.dense("attention.far_reduce", far("attention.far", first, w))
    first = w.dense("attention.near_reduce", first)
    both = torch.cat([first, second], 1)
    pooled = torch.stack([both.mean(1), both.max(1).values], 1)
    choice = torch.sigmoid(w.conv("attention.select", pooled, padding=3))
    mixed = first * choice[:, 0].unsqueeze(1) + second * choice[:, 1].unsqueeze(1)
    return x * w.dense("attention.expand", mixed)


FORMULAS = [
    ("gct", {}, gct),
    ("srm", {}, srm),
    ("lct", {}, lct(6)),
    ("lct", {"groups": 4}, lct(4)),
    ("ge", {"variant": "minus", "extent": 4}, gather_excite("minus", 4)),
    ("ge", {"variant": "theta", "extent": 4}, gather_excite("theta", 4)),
    ("ge", {"variant": "plus", "extent": 2}, gather_excite("plus", 2)),
    ("ge", {"variant": "theta", "resolution": 9}, gather_excite("theta", None)),
    ("ge", {"resolution": 9, "reduction": 4}, gather_excite("plus", None)),
    ("simam", {}, simam),
    ("sge", {}, sge(24)),
    ("sge", {"groups": 5}, sge(4)),
    ("bam", {}, bam(4)),
    ("bam", {"reduction": 4, "dilation": 2}, bam(2)),
    ("scse", {}, scse),
    ("ela", {}, ela(12, 3)),
    ("ela", {"kernel_size": 5, "groups": 8}, ela(8, 2)),
    ("strip", {}, strip),
    ("triplet", {}, triplet(3)),
    ("triplet", {"kernel_size": 3}, triplet(1)),
    ("shuffle", {}, shuffle(12)),
    ("shuffle", {"groups": 4}, shuffle(4)),
    ("polarized", {}, polarized("parallel")),
    ("polarized", {"mode": "sequential"}, polarized("sequential")),
    ("gam", {}, gam),
    ("nam", {}, nam),
    ("ema", {}, ema(24)),
    ("ema", {"groups": 8}, ema(8)),
    ("lka", {}, lka),
    ("lsk", {}, lsk),
]


@both_modes
@pytest.mark.parametrize(("name", "options", "formula"), FORMULAS)
@torch.no_grad()
def test_equal_to_the_formula_of_the_paper(
    name: str, options: dict[str, object], formula: Callable[..., Tensor], training: bool
) -> None:
    block = randomised(name, 24, **options).train(training)
    weights = Weights(block)
    x = torch.randn(3, 24, 9, 9 if "resolution" in options else 6, dtype=torch.float64)
    expected = formula(x, weights)
    assert not torch.allclose(expected, x, atol=1e-2)
    torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-9)
