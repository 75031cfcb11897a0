"""MkDocs hook: the table of the robustness page, from the file that `make fuzz` writes.

<!-- robustness -->   a row a fuzzer, a column an outcome, the builds
"""

from __future__ import annotations

import json
from pathlib import Path

TABLE = Path(__file__).parents[1] / "data" / "robustness.json"
OUTCOMES = ("right", "refused", "raw", "silent", "hung", "lost")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the table in place of the comment."""
    if "<!-- robustness -->" not in markdown:
        return markdown
    report = json.loads(TABLE.read_text("utf-8"))
    lines = [
        f"| fuzzer | cases | {' | '.join(OUTCOMES)} | commit |",
        f"|---|---:|{'---:|' * len(OUTCOMES)}---|",
    ]
    for name, row in report["fuzzers"].items():
        cells = [f"{row['counts'].get(outcome, 0):,}" for outcome in OUTCOMES]
        title = name.removeprefix("fuzz_").replace("_", " ")
        lines.append(
            f"| {title} | {row['cases']:,} | {' | '.join(cells)} | {', '.join(row['builds'])} |"
        )
    total = sum(row["cases"] for row in report["fuzzers"].values())
    lines += ["", f"{total:,} cases, seed {report['seed']}, torch {report['torch']}."]
    return markdown.replace("<!-- robustness -->", "\n".join(lines))
