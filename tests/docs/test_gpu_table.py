"""The speed page says what was measured, or that nothing was."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import kernel_cases
import pytest
import site_pages
import torch
from places import ROOT

HOOK = site_pages.HOOKS / "gpu.py"
ENGLISH, CHINESE = (
    SimpleNamespace(file=SimpleNamespace(src_uri=f"speed{ending}")) for ending in (".md", ".zh.md")
)
BENCH = ROOT / "benchmarks" / "bench_gpu.py"
TIMES = {"plain": 2.0, "compiled": 1.5, "fused": 0.5, "fused, one cut": 0.6, "fused, no pool": 0.8}
REPORT = {
    "machine": {
        "device": "a GPU",
        "date": "2026-01-02",
        "torch": "2.11",
        "triton": "3.6",
        "batch": 64,
        "dtype": "torch.bfloat16",
        "command": "make bench-gpu",
    },
    "sites": [
        {
            "of": [64, 224, "NCHW", "local"],
            "forward ms": TIMES,
            "forward share": dict.fromkeys(TIMES, 0.9),
            "step ms": TIMES,
            "step share": dict.fromkeys(TIMES, 0.8),
            "compiled / fused": [3.0, 2.5],
            "kept / map": {"plain": 4.1, "fused": 0.2},
        },
        {"of": [128, 112, "NCHW", "local"], "error": "RuntimeError: no"},
    ],
    "blocks": [],
    "cuts": [{"of": [64, 224], "chosen": 3, "ms": {"1": 0.7, "64": 0.6}}],
    "networks": [
        {
            "of": ["vgg16", False],
            "forward ms": {"without attention": 5.0},
            "forward / without": {"formula": 1.2, "fused": 1.02},
            "step ms": {"without attention": 15.0},
            "step / without": {"formula": 1.2, "fused": 1.05},
        }
    ],
}


def _imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = _imported(HOOK, monkeypatch)
    monkeypatch.setattr(module, "TABLE", tmp_path / "gpu.json")
    return module


def test_without_a_file_nothing_is_claimed(hook: ModuleType) -> None:
    page = hook.on_page_markdown("a\n\n<!-- gpu -->\n", ENGLISH)
    assert "Not measured yet" in page
    assert "|" not in page
    assert hook.on_page_markdown("no table here", ENGLISH) == "no table here"
    assert "尚未测量" in hook.on_page_markdown("<!-- gpu -->", CHINESE)


def test_a_file_becomes_tables(hook: ModuleType) -> None:
    hook.TABLE.write_text(json.dumps(REPORT), "utf-8")
    page = hook.on_page_markdown("<!-- gpu -->", ENGLISH)
    assert "a GPU, 2026-01-02, torch 2.11, triton 3.6, batch 64, bfloat16" in page
    assert (
        "| 64×224×224 | NCHW | forward | 2.000 (90%) | 1.500 (90%) | 0.500 (90%) | 3.00× |" in page
    )
    assert "| 64×224×224 | NCHW | 0.800 (90%) | 0.600 (90%) | 4.10 maps | 0.20 maps |" in page
    assert "| 64×224×224 | 3 | 0.7 | 0.6 |" in page
    assert "| vgg16 | no | training step | 15.00 | 1.200 | 1.050 |" in page
    assert "Failed: 128 112 NCHW local: RuntimeError: no" in page


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, kernels_run_here: None) -> ModuleType:
    """The benchmark without a GPU: everything is run once, in the interpreter, and not timed."""
    module = _imported(BENCH, monkeypatch)
    for name, value in {
        "BATCH": 2,
        "DTYPE": torch.float32,
        "DEVICE": kernel_cases.DEVICE,
        "maps": lambda channels, side, layout: [torch.randn(2, channels, side, side)],
        "graphed": lambda run, inputs: [run(x) for x in inputs],
        "in_turns": lambda jobs: dict.fromkeys(jobs, 1e-3),
        "kept_bytes": lambda run, x: x.numel(),
    }.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    return module


@pytest.mark.skipif(kernel_cases.NATIVE, reason="make bench-gpu does more")
def test_what_is_measured_of_a_block_has_its_place(bench: ModuleType, hook: ModuleType) -> None:
    rows = [
        {"of": [8, 6, "NCHW", name], **bench.site(8, 6, "NCHW", name)}
        for name in ("local", *bench.BLOCKS)
    ]
    assert {name for *_, name in (row["of"] for row in rows)} == set(kernel_cases.BLOCKS)
    hook.TABLE.write_text(
        json.dumps(REPORT | {"sites": rows[:1], "blocks": rows[1:], "cuts": [], "networks": []})
    )
    page = hook.on_page_markdown("<!-- gpu -->", ENGLISH)
    for name in bench.BLOCKS:
        assert f"| `{name}` | 8×6×6 | NCHW | forward | 1.000 (" in page
        assert f"| `{name}` | 8×6×6 | NCHW | forward and backward | 1.000 (" in page
    assert "Failed" not in page
