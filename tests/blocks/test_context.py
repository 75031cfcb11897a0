"""Blocks of context and self-attention against references of their own: timm's layers, or loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from formulas import Weights, mean_hw, per_channel, randomised
from torch import Tensor

import attnzoo
from attnzoo.blocks.relative import RelativePositions

HEIGHT, WIDTH = 5, 4
both_modes = pytest.mark.parametrize("training", [True, False])


def places(x: Tensor) -> list[tuple[int, int]]:
    return [(row, column) for row in range(x.shape[2]) for column in range(x.shape[3])]


def softmax(logits: list[Tensor]) -> list[Tensor]:
    """Of numbers, or of as many for each image."""
    exponents = [torch.exp(logit - torch.stack(logits).amax(0)) for logit in logits]
    return [exponent / sum(exponents) for exponent in exponents]


def attend(query: Tensor, keys: list[Tensor], values: list[Tensor], scale: float = 1) -> Tensor:
    """One query (N, h) over a list of keys (N, h) → the weighted mean of the values (N, c)."""
    weights = softmax([(query * key).sum(1) * scale for key in keys])
    return sum(weight[:, None] * value for weight, value in zip(weights, values, strict=True))


def at_every_place(x: Tensor, mixed: Callable[[int, int], Tensor]) -> Tensor:
    """A map (N, c, H, W) put together from the (N, c) of each place."""
    columns = [mixed(row, column) for row, column in places(x)]
    return torch.stack(columns, 2).view(x.shape[0], -1, *x.shape[2:])


def heads(x: Tensor, count: int) -> list[Tensor]:
    return list(x.chunk(count, dim=1))


def relative(w: Weights, path: str, span: int, distance: int) -> Tensor:
    return w[f"{path}.table"][max(-span, min(distance, span)) + span]


# ------------------------------------------------------------------------------ the formulas


def nonlocal_block(x: Tensor, w: Weights) -> Tensor:
    theta, phi, g = (w.dense(layer, x) for layer in ("theta", "phi", "g"))
    keys, values = ([t[:, :, r, c] for r, c in places(x)] for t in (phi, g))
    scale = 1 / math.sqrt(theta.shape[1])
    mixed = at_every_place(x, lambda r, c: attend(theta[:, :, r, c], keys, values, scale))
    return x + w.batch_norm("norm", w.dense("z", mixed))


def crisscross(recurrence: int) -> Callable[[Tensor, Weights], Tensor]:
    def formula(x: Tensor, w: Weights) -> Tensor:
        for _ in range(recurrence):
            query, key, value = (w.dense(layer, x) for layer in ("query", "key", "value"))

            def cross(r: int, c: int, q=query, k=key, v=value) -> Tensor:
                seen = [p for p in places(q) if p[0] == r or p[1] == c]
                assert len(seen) == HEIGHT + WIDTH - 1
                keys, values = ([t[:, :, i, j] for i, j in seen] for t in (k, v))
                return attend(q[:, :, r, c], keys, values)

            x = x + w["gamma"] * at_every_place(x, cross)
        return x

    return formula


def a2(x: Tensor, w: Weights) -> Tensor:
    """Equations 2 to 5 of the paper, with its sums over i."""
    features = w.dense("features", x).flatten(2)
    gather = torch.exp(w.dense("gather.conv", x).flatten(2))
    gather = gather / gather.sum(2, keepdim=True)
    distribute = torch.exp(w.dense("distribute.conv", x).flatten(2))
    distribute = distribute / distribute.sum(1, keepdim=True)
    descriptors = sum(
        features[:, :, None, i] * gather[:, None, :, i] for i in range(features.shape[2])
    )
    mixed = [(descriptors * distribute[:, None, :, i]).sum(2) for i in range(features.shape[2])]
    mixed = torch.stack(mixed, 2).view(x.shape[0], -1, *x.shape[2:])
    return x + w.dense("project", mixed)


def danet(x: Tensor, w: Weights) -> Tensor:
    query, key, value = (w.dense(f"position.{layer}", x) for layer in ("query", "key", "value"))
    keys, values = ([t[:, :, r, c] for r, c in places(x)] for t in (key, value))
    position = at_every_place(x, lambda r, c: attend(query[:, :, r, c], keys, values))
    channels = [x[:, channel].flatten(1) for channel in range(x.shape[1])]
    # the authors' code: softmax of the largest energy of the row less each energy
    mixed = []
    for one in channels:
        energies = torch.stack([(one * other).sum(1) for other in channels])
        weights = softmax(list(energies.amax(0) - energies))
        mixed.append(sum(s[:, None] * d for s, d in zip(weights, channels, strict=True)))
    channel = torch.stack(mixed, 1).view(x.shape)
    return x + w["alpha"] * position + w["beta"] * channel


def gc(x: Tensor, w: Weights) -> Tensor:
    weights = softmax([w.dense("attention.conv", x)[:, 0, r, c] for r, c in places(x)])
    context = sum(s[:, None] * x[:, :, r, c] for s, (r, c) in zip(weights, places(x), strict=True))
    hidden = context @ w["transform.fc1.weight"].t() + w["transform.fc1.bias"]
    centred = hidden - hidden.mean(1, keepdim=True)
    hidden = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    hidden = hidden * w["transform.norm.weight"] + w["transform.norm.bias"]
    out = hidden.clamp(min=0) @ w["transform.fc2.weight"].t() + w["transform.fc2.bias"]
    return x + out[:, :, None, None]


def mhsa(count: int, span: int) -> Callable[[Tensor, Weights], Tensor]:
    def formula(x: Tensor, w: Weights) -> Tensor:
        def head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            def look(row: int, column: int) -> Tensor:
                query = q[:, :, row, column]
                logits = []
                for r, c in places(x):
                    position = relative(w, "height", span, r - row)
                    position = position + relative(w, "width", span, c - column)
                    content = (query * k[:, :, r, c]).sum(1) / math.sqrt(q.shape[1])
                    logits.append(content + query @ position)
                weights = softmax(logits)
                values = [v[:, :, r, c] for r, c in places(x)]
                return sum(s[:, None] * value for s, value in zip(weights, values, strict=True))

            return at_every_place(x, look)

        parts = [heads(t, count) for t in w.dense("qkv", x).chunk(3, dim=1)]
        return x + torch.cat([head(*qkv) for qkv in zip(*parts, strict=True)], 1)

    return formula


def axial(count: int, span: int) -> Callable[[Tensor, Weights], Tensor]:
    """Equation 4 of the paper, place by place, first down the columns, then along the rows."""

    def layer(x: Tensor, w: Weights, path: str, axis: int) -> Tensor:
        def head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            def look(row: int, column: int) -> Tensor:
                query, logits, values = q[:, :, row, column], [], []
                for p in range(x.shape[2 + axis]):
                    r, c = (p, column) if axis == 0 else (row, p)
                    distance = p - (row, column)[axis]
                    key = k[:, :, r, c]
                    logit = (query * key).sum(1)
                    logit = logit + query @ relative(w, f"{path}.query_positions", span, distance)
                    logit = logit + key @ relative(w, f"{path}.key_positions", span, distance)
                    logits.append(logit / math.sqrt(q.shape[1]))
                    position = relative(w, f"{path}.value_positions", span, distance)
                    values.append(v[:, :, r, c] + position)
                weights = softmax(logits)
                return sum(s[:, None] * value for s, value in zip(weights, values, strict=True))

            return at_every_place(x, look)

        parts = (heads(w.dense(f"{path}.{t}", x), count) for t in ("query", "key", "value"))
        return torch.cat([head(*qkv) for qkv in zip(*parts, strict=True)], 1)

    def formula(x: Tensor, w: Weights) -> Tensor:
        return x + layer(layer(x, w, "columns", 0), w, "rows", 1)

    return formula


def channel_gate(x: Tensor, w: Weights, first: str, second: str) -> Tensor:
    hidden = w.dense(f"channel_attention.{first}", mean_hw(x)).clamp(min=0)
    return torch.sigmoid(w.dense(f"channel_attention.{second}", hidden))


def local_self(window: int) -> Callable[[Tensor, Weights], Tensor]:
    def formula(x: Tensor, w: Weights) -> Tensor:
        hidden = w.dense("spatial_attention.reduce", x).clamp(min=0)
        query, key, value = (
            w.dense(f"spatial_attention.{layer}", hidden) for layer in ("query", "key", "value")
        )
        reach = range(-(window // 2), window // 2 + 1)

        def look(row: int, column: int) -> Tensor:
            logits, values = [], []
            for number, (down, right) in enumerate((d, r) for d in reach for r in reach):
                r, c = row + down, column + right
                if (r, c) not in places(x):
                    continue
                logit = (query[:, :, row, column] * key[:, :, r, c]).sum(1)
                logit = logit / math.sqrt(hidden.shape[1])
                logits.append(logit + w["spatial_attention.offsets"][number])
                values.append(value[:, :, r, c])
            weights = softmax(logits)
            return sum(s[:, None] * v for s, v in zip(weights, values, strict=True))

        spatial = torch.sigmoid(at_every_place(x, look))
        return x * channel_gate(x, w, "fc1", "fc2") * spatial

    return formula


def local_dynamic(x: Tensor, w: Weights) -> Tensor:
    def units(path: str, value: Tensor) -> Tensor:
        hidden = w.dense(f"{path}.reduce", value).clamp(min=0)
        return w.dense(f"{path}.expand", hidden * per_channel(w[f"{path}.openness"].clamp(min=0)))

    channel = torch.sigmoid(units("channel_attention.units", mean_hw(x)))
    return x * channel * torch.sigmoid(units("spatial_attention.units", x))


def conv(x: Tensor, w: Weights) -> Tensor:
    return x + w.dense("expand", w.dense("reduce", x).clamp(min=0))


FORMULAS = [
    ("nonlocal", {}, nonlocal_block),
    ("nonlocal", {"reduction": 5}, nonlocal_block),
    ("crisscross", {}, crisscross(2)),
    ("crisscross", {"reduction": 2, "recurrence": 1}, crisscross(1)),
    ("crisscross", {"recurrence": 3}, crisscross(3)),
    ("a2", {}, a2),
    ("danet", {}, danet),
    ("gc", {}, gc),
    ("gc", {"reduction": 3}, gc),
    ("mhsa", {}, mhsa(4, 31)),
    ("mhsa", {"heads": 5, "span": 2}, mhsa(4, 2)),
    ("axial", {}, axial(8, 31)),
    ("axial", {"heads": 3, "span": 2}, axial(3, 2)),
    ("local-self", {}, local_self(7)),
    ("local-self", {"reduction": 4, "kernel_size": 3}, local_self(3)),
    ("local-self", {"kernel_size": 1}, local_self(1)),
    ("local-dynamic", {}, local_dynamic),
    ("conv", {}, conv),
    ("conv", {"like": "se", "like_options": {"reduction": 2}}, conv),
]


@both_modes
@pytest.mark.parametrize(("name", "options", "formula"), FORMULAS)
@torch.no_grad()
def test_equal_to_the_formula_of_the_paper(
    name: str, options: dict[str, object], formula: Callable[..., Tensor], training: bool
) -> None:
    block = randomised(name, 24, **options).train(training)
    weights = Weights(block)
    x = 0.5 * torch.randn(2, 24, HEIGHT, WIDTH, dtype=torch.float64)
    expected = formula(x, weights)
    assert not torch.allclose(expected, x, atol=1e-2)
    torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------ what is particular to each


@pytest.mark.parametrize("name", ["axial", "mhsa"])
@torch.no_grad()
def test_distances_beyond_the_span_share_a_vector(name: str) -> None:
    positions = RelativePositions(2, 3)
    vectors = positions(5)
    assert vectors.shape == (5, 5, 3)
    for i in range(5):
        for j in range(5):
            expected = positions.table[max(-2, min(2, j - i)) + 2]
            assert torch.equal(vectors[i, j], expected)
    assert "span=2, width=3" in repr(positions)
    assert (
        len(
            {
                attnzoo.create_block(name, 8, span=9)(torch.randn(1, 8, s, 3)).shape[2]
                for s in (1, 4, 30)
            }
        )
        == 3
    )


@pytest.mark.parametrize(
    ("name", "count"), [("mhsa", {64: 4, 17: 1, 6: 3, 3: 3, 1: 1}), ("axial", {64: 8, 17: 1, 6: 6})]
)
def test_heads_are_the_largest_divisor_up_to_the_option(name: str, count: dict[int, int]) -> None:
    built = {channels: attnzoo.create_block(name, channels) for channels in count}
    found = {c: b.heads if name == "mhsa" else b.columns.heads for c, b in built.items()}
    assert found == count


@torch.no_grad()
def test_crisscross_sees_its_cross_after_one_pass_and_all_after_two() -> None:
    for recurrence, seen in ((1, HEIGHT + WIDTH - 1), (2, HEIGHT * WIDTH)):
        block = randomised("crisscross", 8, recurrence=recurrence)
        x = torch.randn(1, 8, HEIGHT, WIDTH, dtype=torch.float64)
        before, changed = block(x)[0, :, 2, 1], 0
        for row, column in places(x):
            other = x.clone()
            other[0, :, row, column] += 1
            changed += int(not torch.equal(block(other)[0, :, 2, 1], before))
        assert changed == seen


@torch.no_grad()
def test_the_attention_of_crisscross_is_that_of_the_last_pass() -> None:
    block = randomised("crisscross", 8)
    maps: list[Tensor] = []
    block.softmax.register_forward_hook(lambda module, args, output: maps.append(output))
    block(torch.randn(1, 8, HEIGHT, WIDTH, dtype=torch.float64))
    (attention,) = maps
    assert attention.shape == (1, HEIGHT, WIDTH, HEIGHT + WIDTH)
    itself = attention[0, range(HEIGHT), :, range(HEIGHT)]
    assert not itself.any()
