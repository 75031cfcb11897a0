"""MkDocs hook: tables of the toolchains page, from `make toolchains` and `make quantized`.

<!-- toolchains -->   a row a block, a column a tool; then what is not right, and why; the versions
<!-- resnet18 -->     ResNet-18 with attention on ExecuTorch: off by how much, in how many pieces
<!-- quantized -->    a row a block, a column a tool: the cosine in 8 bits
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
TABLE = DATA / "toolchains.csv"
QUANTIZED = DATA / "quantized.csv"
MARKS = {"right": "right", "converted": "converted", "wrong": "**wrong**", "refused": "refused"}

Rows = list[dict[str, str]]


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the tables in place of the comments."""
    for comment, (table, lines) in TABLES.items():
        if comment in markdown:
            with table.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            markdown = markdown.replace(comment, "\n".join(lines(rows)))
    return markdown


def _lines(rows: Rows) -> list[str]:
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    blocks = sorted({row["block"] for row in rows})
    found = {(row["block"], row["tool"]): row for row in rows if row["mechanism"] == "all"}
    lines = [f"| block | {' | '.join(tools)} |", f"|---|{'---|' * len(tools)}"]
    for block in blocks:
        cells = [_cell(found.get((block, tool))) for tool in tools]
        lines.append(f"| {block} | {' | '.join(cells)} |")
    faults = [row for row in rows if row["outcome"] in ("wrong", "refused")]
    lines += [""]
    for row in faults:
        where = "" if row["mechanism"] == "all" else f", {row['mechanism']}"
        why = row["detail"] or f"off by {row['difference']}"
        lines.append(f"- `{row['block']}` in {row['tool']}{where}: {row['outcome']}, `{why}`")
    lines += ["", "Versions: " + "; ".join(dict.fromkeys(row["versions"] for row in rows)) + "."]
    return lines


def _cell(row: dict[str, str] | None) -> str:
    if row is None:
        return ""
    mark = MARKS[row["outcome"]]
    count = row["delegates"]
    return f"{mark}, {count} piece{'s' * (count != '1')}" if count else mark


def _resnet(rows: Rows) -> list[str]:
    lines = ["| block | off by | pieces |", "|---|---|---|"]
    tried = [row for row in rows if row["mechanism"] == "resnet18"]
    cells = ((row["block"], row["difference"], row["delegates"]) for row in tried)
    return lines + [f"| {' | '.join(three)} |" for three in cells]


def _quantized(rows: Rows) -> list[str]:
    lines = []
    for weights in dict.fromkeys(row["weights"] for row in rows):
        own = [row for row in rows if row["weights"] == weights]
        tools = list(dict.fromkeys(row["tool"] for row in own))
        found = {(row["block"], row["tool"]): row for row in own}
        lines += [f"| {weights} | {' | '.join(tools)} |", f"|---|{'---|' * len(tools)}"]
        for block in dict.fromkeys(row["block"] for row in own):
            kept = [found.get((block, tool)) for tool in tools]
            cells = [f"{row['cosine']} ({row['centred']})" if row else "" for row in kept]
            lines.append(f"| {block} | {' | '.join(cells)} |")
        lines.append("")
    return [*lines, "Versions: " + "; ".join(dict.fromkeys(row["versions"] for row in rows)) + "."]


TABLES: dict[str, tuple[Path, Callable[[Rows], list[str]]]] = {
    "<!-- toolchains -->": (TABLE, _lines),
    "<!-- resnet18 -->": (TABLE, _resnet),
    "<!-- quantized -->": (QUANTIZED, _quantized),
}
