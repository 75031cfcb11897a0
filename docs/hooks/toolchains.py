"""MkDocs hook: the table of the toolchains page, from the file that `make toolchains` writes.

<!-- toolchains -->   a row a block, a column a tool; then what is not right, and why; the versions
"""

from __future__ import annotations

import csv
from pathlib import Path

TABLE = Path(__file__).parents[1] / "data" / "toolchains.csv"
MARKS = {"right": "right", "converted": "converted", "wrong": "**wrong**", "refused": "refused"}


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the tables in place of the comment."""
    if "<!-- toolchains -->" not in markdown:
        return markdown
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return markdown.replace("<!-- toolchains -->", "\n".join(_lines(rows)))


def _lines(rows: list[dict[str, str]]) -> list[str]:
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
    return f"{mark}, {row['delegates']} pieces" if row["delegates"] else mark
