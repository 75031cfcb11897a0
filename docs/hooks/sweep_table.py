"""MkDocs hook: the coverage page, from the table that `make sweep` writes.

<!-- coverage -->   per policy and library, the failures, and every family
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from mkdocs.structure.pages import Page
from shared import Language, language, table

from attnzoo.sweep import POLICIES, Row, read_rows, summary

TABLE = Path(__file__).parents[1] / "data" / "coverage.csv"
LIBRARIES = ("timm", "torchvision")
FAILED = ("broken", "refused")
WORDS: dict[str, dict[Language, str]] = {
    "versions": {"en": "With {}: {}.", "zh": "所用版本：{}。其中 {}。"},
    "counted": {
        "en": "{0} convolutional networks of {2} and {1} with attention of their own",
        "zh": "{2} 有 {0} 个卷积网络，另有 {1} 个自带注意力",
    },
    "and": {"en": " and ", "zh": "、"},
    "or": {"en": "; ", "zh": "；"},
    "policy": {"en": "policy", "zh": "策略"},
    "hybrids": {"en": "{}, hybrids", "zh": "{}，混合网络"},
    "of": {"en": "{} of {}", "zh": "{} / {}"},
    "failed": {
        "en": "## What failed, and why",
        "zh": "## 哪些失败了，为什么 { #what-failed-and-why }",
    },
    "none": {"en": "None.", "zh": "没有。"},
    "networks": {"en": "networks", "zh": "网络"},
    "happened": {"en": "what happened", "zh": "结果"},
    "any": {"en": "any policy", "zh": "任何策略"},
    "takes": {"en": "## What it takes", "zh": "## 需要多少时间 { #what-it-takes }"},
    "time": {
        "en": "On the {rows:,} rows whose networks were built with real weights, building took "
        "{build:.2f} s on average, and planning and wrapping {wrap:.2f} s, by one thread on a "
        "machine that was busy with other things; wrapping was the quicker in {quicker:,} rows.",
        "zh": "在以真实权重建立网络的 {rows:,} 行中，建立平均用 {build:.2f} 秒，规划与插入用 "
        "{wrap:.2f} 秒（单线程，机器同时在做别的事）；其中 {quicker:,} 行插入更快。",
    },
    "families": {"en": "## Family by family", "zh": "## 逐个系列 { #family-by-family }"},
    "family": {"en": "family", "zh": "系列"},
    "auto": {"en": "`auto` takes", "zh": "`auto` 选择"},
    "sites": {"en": "sites", "zh": "位置数"},
    "to": {"en": "{} to {}", "zh": "{} 至 {}"},
}  # fmt: skip


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put the tables in place of the comment."""
    if "<!-- coverage -->" not in markdown:
        return markdown
    tongue = language(page.file.src_uri)
    words = {key: said[tongue] for key, said in WORDS.items()}
    rows = read_rows(TABLE)
    swept = [row for row in rows if row.policy]
    sections = [
        _versions(rows, words),
        _by_policy(swept, words),
        words["failed"],
        _failures([*swept, *(row for row in rows if row.result == "not followed")], words),
        words["takes"],
        _time(swept, words),
        words["families"],
        _families(swept, words),
    ]
    return markdown.replace("<!-- coverage -->", "\n\n".join(sections))


def _versions(rows: list[Row], words: dict[str, str]) -> str:
    versions = sorted({f"{row.library} {row.version}" for row in rows})
    kinds = Counter((row.library, row.kind) for row in {row.model: row for row in rows}.values())
    counted = [
        words["counted"].format(kinds[library, "cnn"], kinds[library, "hybrid"], library)
        for library in LIBRARIES
    ]
    return words["versions"].format(words["and"].join(versions), words["or"].join(counted))


def _by_policy(rows: list[Row], words: dict[str, str]) -> str:
    tallies = summary(rows)
    columns = [(library, kind) for kind in ("cnn", "hybrid") for library in LIBRARIES]
    heads = [
        words["hybrids"].format(library) if kind == "hybrid" else library
        for library, kind in columns
    ]
    found = []
    for policy in POLICIES:
        cells = []
        for library, kind in columns:
            tally = tallies.get((policy, library, kind))
            cells.append(words["of"].format(tally.ok, tally.with_places) if tally else "–")
        found.append((f"`{policy}`", *cells))
    return table([words["policy"], *heads], found, right=len(columns))


def _failures(rows: list[Row], words: dict[str, str]) -> str:
    failed = [row for row in rows if row.result in (*FAILED, "not followed")]
    if not failed:
        return words["none"]
    by_cause: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in failed:
        by_cause[row.policy or words["any"], row.result, row.reason].append(row.model)
    found = [
        (policy, ", ".join(f"`{model}`" for model in models), f"{result}: {reason}")
        for (policy, result, reason), models in sorted(by_cause.items())
    ]
    return table([words["policy"], words["networks"], words["happened"]], found)


def _time(rows: list[Row], words: dict[str, str]) -> str:
    real = [row for row in rows if row.result == "ok" and row.device == "cpu"]
    if not real:
        return ""
    return words["time"].format(
        rows=len(real),
        build=sum(row.build_seconds for row in real) / len(real),
        wrap=sum(row.wrap_seconds for row in real) / len(real),
        quicker=sum(row.wrap_seconds < row.build_seconds for row in real),
    )


def _families(rows: list[Row], words: dict[str, str]) -> str:
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.policy == "auto" and row.kind == "cnn":
            found[row.library, row.family].append(row)
    lines = []
    for (library, family), of_family in sorted(found.items()):
        chosen = Counter(row.chosen for row in of_family if row.chosen).most_common()
        sites = [row.sites for row in of_family]
        few, many = min(sites), max(sites)
        span = f"{few}" if few == many else words["to"].format(few, many)
        policies = ", ".join(f"`{policy}` ({count})" for policy, count in chosen)
        lines.append((f"{library} {family}", policies, len(of_family), span))
    heads = [words[key] for key in ("family", "auto", "networks", "sites")]
    return table(heads, lines, right=2)
