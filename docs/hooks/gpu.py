"""MkDocs hook: the tables of the speed page, from the file that `make bench-gpu` writes.

<!-- gpu -->   the device, one table a part; or that nothing was measured yet
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mkdocs.structure.pages import Page
from shared import Language, language

TABLE = Path(__file__).parents[1] / "data" / "gpu.json"
MISSING: dict[Language, str] = {
    "en": "Not measured yet: no GPU was at hand since the kernels were written. They are tested in "
    "Triton's interpreter and compiled for an H100, but no figure on a GPU is known. "
    "`make bench-gpu` measures them, and the tables will stand here.",
    "zh": "尚未测量：内核写成以来手边没有 GPU。它们在 Triton 的解释器中测试过，也为 H100 编译过，"
    "但还没有任何 GPU 上的数字。`make bench-gpu` 会测量，表格届时显示在这里。",
}
Row = dict[str, Any]
CONTENDERS = ("formula", "compiled", "fused")


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put the tables in place of the comment."""
    if "<!-- gpu -->" not in markdown:
        return markdown
    missing = MISSING[language(page.file.src_uri)]
    found = tables(json.loads(TABLE.read_text("utf-8"))) if TABLE.exists() else missing
    return markdown.replace("<!-- gpu -->", found)


def tables(report: Row) -> str:
    """What one report says, as Markdown."""
    machine = report["machine"]
    lines = [
        f"{machine['device']}, {machine['date']}, torch {machine['torch']}, triton "
        f"{machine['triton']}, batch {machine['batch']}, {machine['dtype'].removeprefix('torch.')};"
        f" `{machine['command']}`. Medians, in milliseconds. In brackets: the share of a copy's "
        f"bandwidth at which the fewest possible bytes would have been moved."
    ]
    sites, failed = _split(report["sites"])
    if sites:
        lines += ["", "Attention with its pool:", ""]
        lines += _table(
            ["map", "format", "part", *CONTENDERS, "compiled / fused"],
            [_site(row, part, at) for row in sites for at, part in enumerate(("forward", "step"))],
        )
        lines += ["", "Without a pool, in one cut, and what is kept for the backward pass:", ""]
        lines += _table(
            ["map", "format", "fused, no pool", "fused, one cut", "kept: formula", "kept: fused"],
            [_more(row) for row in sites],
        )
    blocks, other = _split(report["blocks"])
    if blocks:
        lines += ["", "Other blocks, with γ and a pool:", ""]
        lines += _table(
            ["block", "map", "format", "part", *CONTENDERS, "compiled / fused"],
            [
                [f"`{row['of'][3]}`", *_site(row, part, at)]
                for row in blocks
                for at, part in enumerate(("forward", "step"))
            ],
        )
    cuts, more = _split(report["cuts"])
    if cuts:
        lines += ["", "The forward pass by the number of images in a cut:", ""]
        counts = list(cuts[0]["ms"])
        lines += _table(
            ["map", "chosen", *counts],
            [[_map(row), row["chosen"], *(row["ms"][count] for count in counts)] for row in cuts],
        )
    networks, most = _split(report["networks"])
    if networks:
        lines += ["", "Whole networks, over the same network without attention:", ""]
        lines += _table(
            ["network", "compiled", "part", "without, ms", "formula", "fused"],
            [_network(row, part) for row in networks for part in ("forward", "step")],
        )
    for row in (*failed, *other, *more, *most):
        lines += ["", f"Failed: {' '.join(map(str, row['of']))}: {row['error']}"]
    return "\n".join(lines)


def _split(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    return [row for row in rows if "error" not in row], [row for row in rows if "error" in row]


def _table(heads: list[str], rows: list[list[Any]]) -> list[str]:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def _map(row: Row) -> str:
    return f"{row['of'][0]}×{row['of'][1]}×{row['of'][1]}"


def _cell(row: Row, part: str, name: str) -> str:
    return f"{row[f'{part} ms'][name]:.3f} ({row[f'{part} share'][name]:.0%})"


def _site(row: Row, part: str, at: int) -> list[Any]:
    times = [_cell(row, part, name) for name in ("plain", "compiled", "fused")]
    said = "forward" if part == "forward" else "forward and backward"
    return [_map(row), row["of"][2], said, *times, f"{row['compiled / fused'][at]:.2f}×"]


def _more(row: Row) -> list[Any]:
    times = [_cell(row, "forward", name) for name in ("fused, no pool", "fused, one cut")]
    kept = [f"{row['kept / map'][name]:.2f} maps" for name in ("plain", "fused")]
    return [_map(row), row["of"][2], *times, *kept]


def _network(row: Row, part: str) -> list[Any]:
    name, compiled = row["of"]
    ratios = [f"{row[f'{part} / without'][key]:.3f}" for key in ("formula", "fused")]
    said = "forward" if part == "forward" else "training step"
    base = f"{row[f'{part} ms']['without attention']:.2f}"
    return [name, "yes" if compiled else "no", said, base, *ratios]
