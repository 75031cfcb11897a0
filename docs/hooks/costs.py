"""MkDocs hook: what attention costs, from the file that `make bench-costs` writes.

<!-- costs -->                                   a table, a row a backbone and block
<!--= costs | BACKBONE | BLOCK | COLUMN -->      one figure, in percent over the plain network
"""

from __future__ import annotations

import csv
import re

from mkdocs.exceptions import PluginError
from shared import DOCS, table

TABLE = DOCS / "data" / "costs.csv"
COLUMNS = ("parameters", "macs", "activations", "kept", "time")
HEADS = ("parameters %", "MACs %", "activations %", "kept in training %", "time %", "quartiles")
INLINE = re.compile(r"<!--= costs \| ([^|]+?) \| ([^|]+?) \| (\w+) -->")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the table and the figures in place of the comments."""
    if "costs" not in markdown:
        return markdown
    markdown = INLINE.sub(lambda found: value(*found.groups()), markdown)
    return markdown.replace("<!-- costs -->", costs()) if "<!-- costs -->" in markdown else markdown


def read() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def costs() -> str:
    """A row a backbone and block; what is added, over the plain network."""
    rows, lines = read(), []
    for row in rows:
        cells = [percent(row[column]) for column in COLUMNS]
        quartiles = f"{percent(row['time_low'])} to {percent(row['time_high'])}"
        lines.append([row["backbone"], row["block"], row["places"], *cells, quartiles])
    about = f"{rows[0]['device']}, PyTorch {rows[0]['torch']}; at least {turns(rows)} turns."
    return table(["backbone", "block", "places", *HEADS], lines, right=7) + f"\n\n{about}"


def turns(rows: list[dict[str, str]]) -> int:
    return min(int(row["turns"]) for row in rows)


def value(backbone: str, block: str, column: str) -> str:
    """One figure.

    Raises:
        PluginError: there is no such row or column.
    """
    for row in read():
        if (row["backbone"], row["block"]) == (backbone, block) and column in COLUMNS:
            return percent(row[column])
    raise PluginError(f"costs.csv has no {column!r} of {backbone}, {block}.")


def percent(share: str) -> str:
    """`0.0071` → `+0.71`, `0.31` → `+31.0`, `0` → `0`."""
    number = 100 * float(share)
    if number == 0:
        return "0"
    return f"{number:+.{2 if abs(number) < 1 else 1}f}".replace("-", "−")
