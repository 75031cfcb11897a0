"""The toolchains page says what its table says, and the table is of blocks and tools there are."""

from __future__ import annotations

import csv
import importlib.util
from typing import get_args

from places import ROOT

from attnzoo.registry import BLOCKS, Tool

HOOK = ROOT / "docs" / "hooks" / "toolchains.py"
TABLE = ROOT / "docs" / "data" / "toolchains.csv"


def _rows() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_row_is_of_a_block_that_there_is_and_tells_its_versions() -> None:
    known = {"(plain)", *(spec.name for spec in BLOCKS)}
    rows = _rows()
    assert rows
    for row in rows:
        assert row["block"] in known
        assert row["outcome"] in ("right", "wrong", "refused", "converted")
        assert "torch " in row["versions"]
        assert row["detail"] or row["outcome"] in ("right", "wrong", "converted")
        assert row["outcome"] != "right" or float(row["difference"]) <= 1e-4


def test_what_is_wrong_is_refused_by_export_with_the_reason() -> None:
    for row in _rows():
        if row["outcome"] == "wrong" and not row["tool"].startswith("opencv"):
            assert row["tool"] in BLOCKS[row["block"]].limits


def test_a_limit_of_a_tool_is_what_the_table_shows() -> None:
    faults = {(row["block"], row["tool"]) for row in _rows() if row["outcome"] != "right"}
    for spec in BLOCKS:
        for limit in set(spec.limits) & set(get_args(Tool)):
            assert (spec.name, limit) in faults


def test_the_page_has_a_cell_for_each_row() -> None:
    spec = importlib.util.spec_from_file_location("toolchains_hook", HOOK)
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    page = hook.on_page_markdown("<!-- toolchains -->")
    rows = [row for row in _rows() if row["mechanism"] == "all"]
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    cells = [cell.strip() for line in lines[1:] for cell in line.strip("|").split("|")[1:]]
    assert sum(bool(cell) for cell in cells) == len(rows)
    for row in _rows():
        if row["outcome"] in ("wrong", "refused"):
            assert f"- `{row['block']}` in {row['tool']}" in page
    assert hook.on_page_markdown("other") == "other"


def test_on_executorch_the_commonest_blocks_go_over_in_two_pieces_at_most() -> None:
    pieces = {row["block"]: row for row in _rows() if row["mechanism"] == "resnet18"}
    assert set(pieces) == {"(plain)", "se", "local", "eca", "cbam", "simam", "coord"}
    for row in pieces.values():
        assert row["outcome"] == "right"
        assert int(row["delegates"]) <= 2


def test_the_table_of_eight_bits_says_what_holds() -> None:
    with (TABLE.parent / "quantized.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        holds = float(row["cosine"]) >= min(0.99, float(row["plain"]) - 0.005)
        assert row["holds"] == ("yes" if holds else "no")
    kept = {(row["tool"].partition("-")[0], row["block"]) for row in rows if row["holds"] == "yes"}
    assert kept >= {(tool, block) for tool in ("onnxruntime", "pt2e") for block in ("se", "eca")}
