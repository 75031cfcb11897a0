"""What the kernels are launched with, and that each compiles for a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from kernel_cases import NATIVE
from places import SUPPORT

from attnzoo.kernels.shapes import images_per_cut, pooled_size, tiling

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("kernels_run_here")


def test_blocks_fit_a_program() -> None:
    for channels in (1, 3, 64, 2048, 4096):
        for hidden in (1, 8, 64, 256, 1024):
            for itemsize in (2, 4):
                cut = tiling(channels, 196, hidden, itemsize)
                assert cut.hidden >= hidden
                assert min(cut.pixels, cut.channels, cut.hidden, cut.slice) >= 16
                assert cut.hidden * cut.pixels <= 16384
    assert pooled_size(7, 8, "max", True) == (4, 4)
    assert pooled_size(7, 8, "mean", False) == (3, 4)
    assert pooled_size(7, 8, "", True) == (7, 8)
    assert images_per_cut(torch.randn(5, 2, 2, 2)) == 5


def test_a_cut_fills_its_share_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    h200 = SimpleNamespace(L2_cache_size=60 * 2**20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: h200)

    def images(*shape: int) -> int:
        x = SimpleNamespace(shape=shape, element_size=lambda: 2, is_cuda=True, device="cuda")
        return images_per_cut(x)

    assert images(64, 64, 224, 224) == 3
    assert images(64, 512, 14, 14) == 125
    assert images(64, 512, 1024, 1024) == 1
    assert images(10**6, 1, 1, 1) == 65535


@pytest.mark.skipif(NATIVE, reason="they have just run")
def test_kernels_compile_for_a_gpu_that_is_not_here(tmp_path) -> None:
    """Every kernel, for compute capability 9.0."""
    nvidia = pytest.importorskip("triton.backends").backends.get("nvidia")
    if nvidia is None:
        pytest.skip("this Triton has no backend for NVIDIA")
    script = SUPPORT / "compile_kernels.py"
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {
        "statistics", "channel_gate", "apply_pool", "sums", "gate_sums", "weight_sums", "spread",
        "plane_tiles", "plane_totals", "energy_sums", "energy_totals", "energy_spread",
        "spread_planes", "pixels", "spread_pixels", "apply", "spread_gates",
    }  # fmt: skip
