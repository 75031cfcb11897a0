"""MkDocs hook: the coverage page, from the table that `make sweep` writes.

<!-- coverage -->   per policy and library, the failures, and every family
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from attnzoo.sweep import POLICIES, Row, read_rows, summary

TABLE = Path(__file__).parents[1] / "data" / "coverage.csv"
LIBRARIES = ("timm", "torchvision")
FAILED = ("broken", "refused")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the tables in place of the comment."""
    if "<!-- coverage -->" not in markdown:
        return markdown
    rows = read_rows(TABLE)
    swept = [row for row in rows if row.policy]
    sections = [
        _versions(rows),
        _by_policy(swept),
        "## What failed, and why",
        _failures([*swept, *(row for row in rows if row.result == "not followed")]),
        "## What it takes",
        _time(swept),
        "## Family by family",
        _families(swept),
    ]
    return markdown.replace("<!-- coverage -->", "\n\n".join(sections))


def _versions(rows: list[Row]) -> str:
    versions = sorted({f"{row.library} {row.version}" for row in rows})
    kinds = Counter((row.library, row.kind) for row in {row.model: row for row in rows}.values())
    counted = [
        f"{kinds[library, 'cnn']} convolutional networks of {library} and "
        f"{kinds[library, 'hybrid']} with attention of their own"
        for library in LIBRARIES
    ]
    return f"With {' and '.join(versions)}: {'; '.join(counted)}."


def _by_policy(rows: list[Row]) -> str:
    tallies = summary(rows)
    columns = [(library, kind) for kind in ("cnn", "hybrid") for library in LIBRARIES]
    heads = [f"{library}{', hybrids' if kind == 'hybrid' else ''}" for library, kind in columns]
    lines = [f"| policy | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for policy in POLICIES:
        cells = []
        for library, kind in columns:
            tally = tallies.get((policy, library, kind))
            cells.append(f"{tally.ok} of {tally.with_places}" if tally else "–")
        lines.append(f"| `{policy}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _failures(rows: list[Row]) -> str:
    failed = [row for row in rows if row.result in (*FAILED, "not followed")]
    if not failed:
        return "None."
    by_cause: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in failed:
        by_cause[row.policy or "any policy", row.result, row.reason].append(row.model)
    lines = ["| policy | networks | what happened |", "|---|---|---|"]
    for (policy, result, reason), models in sorted(by_cause.items()):
        named = ", ".join(f"`{model}`" for model in models)
        lines.append(f"| `{policy}` | {named} | {result}: {reason.replace('|', ' ')} |")
    return "\n".join(lines)


def _time(rows: list[Row]) -> str:
    real = [row for row in rows if row.result == "ok" and row.device == "cpu"]
    if not real:
        return ""
    quicker = sum(row.wrap_seconds < row.build_seconds for row in real)
    build = sum(row.build_seconds for row in real) / len(real)
    wrap = sum(row.wrap_seconds for row in real) / len(real)
    return (
        f"On the {len(real):,} rows whose networks were built with real weights, building took "
        f"{build:.2f} s on average, and planning and wrapping {wrap:.2f} s, by one thread on a "
        f"machine that was busy with other things; wrapping was the quicker in {quicker:,} rows."
    )


def _families(rows: list[Row]) -> str:
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.policy == "auto" and row.kind == "cnn":
            found[row.library, row.family].append(row)
    lines = ["| family | networks | `auto` takes | sites |", "|---|---:|---|---:|"]
    for (library, family), of_family in sorted(found.items()):
        chosen = Counter(row.chosen for row in of_family if row.chosen).most_common()
        sites = [row.sites for row in of_family]
        span = f"{min(sites)}" if min(sites) == max(sites) else f"{min(sites)} to {max(sites)}"
        policies = ", ".join(f"`{policy}` ({count})" for policy, count in chosen)
        lines.append(f"| {library} {family} | {len(of_family)} | {policies} | {span} |")
    return "\n".join(lines)
