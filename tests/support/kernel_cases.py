"""What the tests of kernels share: maps to try, what to compare with, and how closely."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo.kernels.shapes import KINDS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NATIVE = DEVICE == "cuda"
#: Of the relative norm; what rounding the result and each factor once can come to.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 5e-3,
    torch.bfloat16: 2e-2,
}
POOLS = {"": None, "max": nn.MaxPool2d, "mean": nn.AvgPool2d}
LAYOUTS = ("NCHW", "channels_last", "sliced", "permuted")
#: Registered names of blocks that have kernels; those of `KINDS` are names of blocks, too.
BLOCKS = (*KINDS, "cbam", "spatial", "simam")


@contextmanager
def poisoned() -> Iterator[None]:
    """What is not written is NaN."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def noted_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What the kernels that write a block's result are asked for from now on."""
    return _noted(monkeypatch, "calls", "gated", "energy", "gate_maps")


def noted_backward(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What the kernels that go back are run on from now on."""
    gates = ("planes_backward", "pixels_backward", "gate_maps_backward")
    asked = _noted(monkeypatch, "launch_gates", *gates)
    for module in ("launch", "launch_energy"):
        _noted(monkeypatch, module, "backward", asked=asked)
    return asked


def _noted(
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    *names: str,
    asked: list[tuple[object, ...]] | None = None,
) -> list[tuple[object, ...]]:
    asked = [] if asked is None else asked
    holder = import_module(f"attnzoo.kernels.{module}")  # which may import triton

    def noting(function: Callable[..., object]) -> Callable[..., object]:
        return lambda *args: (asked.append(args), function(*args))[1]

    for name in names:
        monkeypatch.setattr(holder, name, noting(getattr(holder, name)))
    return asked


def dtypes() -> st.SearchStrategy[torch.dtype]:
    half = [torch.float16, torch.bfloat16]
    return st.sampled_from([torch.float32, *half] + [torch.float64] * (not NATIVE))


@st.composite
def shapes(draw: st.DrawFn, least: int = 2) -> tuple[int, int, int, int]:
    sides = draw(st.integers(least, 15)), draw(st.integers(least, 15))
    return draw(st.integers(1, 3)), draw(st.integers(1, 70)), *sides


def laid_out(x: Tensor, layout: str) -> Tensor:
    """The same values in other strides."""
    n, c, h, w = x.shape
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "sliced":
        wide = torch.full((n, c + 1, h, w + 3), torch.nan, dtype=x.dtype, device=x.device)
        wide[:, 1:, :, 2:-1] = x
        return wide[:, 1:, :, 2:-1]
    return x.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0) if layout == "permuted" else x


def without_ties(x: Tensor) -> Tensor:
    """One value of each 2×2 window far above the others, so that rounding picks no other."""
    n, c, h, w = x.shape
    picked = torch.randint(2, (n, c, -(-h // 2), -(-w // 2), 2), device=x.device)
    if h % 2:  # the last windows have one row
        picked[:, :, -1, :, 0] = 0
    if w % 2:
        picked[:, :, :, -1, 1] = 0
    rows = torch.arange(h, device=x.device).view(-1, 1) % 2
    columns = torch.arange(w, device=x.device).view(1, -1) % 2
    spread = picked.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :h, :w]
    chosen = (spread[..., 0] == rows) & (spread[..., 1] == columns)
    return torch.where(chosen, 8 + x.abs(), x.abs())


def softened(x: Tensor, y: Tensor, gamma: Tensor | None) -> Tensor:
    return y if gamma is None else x + gamma.view(-1, 1, 1) * (y - x)


def pooled(y: Tensor, pool: str, ceil: bool) -> Tensor:
    if pool == "max":
        return F.max_pool2d(y, 2, ceil_mode=ceil)
    return F.avg_pool2d(y, 2, ceil_mode=ceil) if pool else y


def relative(value: Tensor, expected: Tensor) -> float:
    norm = expected.double().norm().item()
    return (value.double() - expected.double()).norm().item() / max(norm, 1e-12)


def check_gradients(found: Sequence[Tensor], wanted: Sequence[Tensor], x: Tensor) -> None:
    """Within what the dtype of x lets sums over it lose."""
    # Sums of g·x whose terms cancel are as far off as the terms are large, not as what is left.
    terms = 0.1 * x.abs().max().item() * float(x.numel() / x.shape[1]) ** 0.5
    for value, target in zip(found, wanted, strict=True):
        assert value.dtype == x.dtype
        assert value.shape == target.shape
        assert value.isfinite().all()
        size = max(target.norm().item(), terms)
        assert (value.double() - target).norm().item() < 2 * TOLERANCE[x.dtype] * size
