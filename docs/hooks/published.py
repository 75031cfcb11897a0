"""MkDocs hook: what the pages on studies quote, from the folders in docs/data/studies.

On a line of its own, with NAME a folder there:

<!-- study: NAME | results -->    its table of results, from its report
<!-- study: NAME | words -->      every comparison in a sentence
<!-- study: NAME | cost -->       its table of costs
<!-- study: NAME | file -->       the study file
<!-- study: NAME | size -->       how many runs, seeds and variants, on what, and how long
<!-- study: NAME | looks -->      where its attention looks (looks.csv)
<!-- study: NAME | changes -->    how far its attention opened (changes.csv)
<!-- study: NAME | insertion -->  accuracy right after insertion (insertion.csv)
<!-- study: NAME | deletion -->   accuracy without the pixels that attention looks at (deletion.csv)
<!-- studies -->                  all studies, with their sizes

Within a line, BACKBONE and VARIANT as the study names them:

<!--= NAME | BACKBONE | VARIANT | top1 -->        mean ± standard deviation, percent
<!--= NAME | BACKBONE | VARIANT | seed2 -->       of one seed alone, percent
<!--= NAME | BACKBONE | VARIANT | difference -->  from plain, in points, with its 95% interval
<!--= NAME | BACKBONE | VARIANT | verdict -->     the verdict on it
<!--= NAME | BACKBONE | VARIANT | inside -->      attention inside the object over the object's
                                                  share of the area, with its 95% interval
<!--= NAME | BACKBONE | VARIANT | untrained -->   the same before training
"""

from __future__ import annotations

import csv
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page
from shared import DOCS, Language, language, table

from attnzoo.checks import counted
from attnzoo.study.numbers.inference import mean_interval

STUDIES = DOCS / "data" / "studies"
BLOCK = re.compile(r"^<!-- study: ([\w-]+) \| (\w+) -->$", re.MULTILINE)
INLINE = re.compile(r"<!--= ([\w-]+) \| ([^|]+?) \| ([^|]+?) \| (\w+) -->")
WHEN = {"inside": "after", "untrained": "before"}
SECTIONS = {"results": "## Results", "words": "### In words", "cost": "## Cost beside accuracy"}

Row = Mapping[str, str]


def on_page_markdown(markdown: str, page: Page | None = None, **_: object) -> str:
    """Put what the studies found in place of the comments."""
    tongue = "en" if page is None else language(page.file.src_uri)
    markdown = BLOCK.sub(lambda found: block(found[1], found[2], tongue), markdown)
    markdown = INLINE.sub(lambda found: value(*found.groups()), markdown)
    return markdown.replace("<!-- studies -->", all_studies())


def names() -> list[str]:
    """The studies that have results."""
    return sorted(path.parent.name for path in STUDIES.glob("*/results.csv"))


def block(name: str, part: str, tongue: Language = "en") -> str:
    """What stands in place of a comment on a line of its own.

    Raises:
        PluginError: there is no such study or part.
    """
    if name not in names():
        raise PluginError(f"there is no study {name!r} in docs/data/studies.")
    if part in SECTIONS:
        return section(name, SECTIONS[part])
    if part == "size":
        return size(name, tongue)
    parts: dict[str, Callable[[str], str]] = {
        "file": study_file,
        "looks": looks,
        "changes": changes,
        "insertion": insertion,
        "deletion": deletion,
    }
    if part not in parts:
        raise PluginError(
            f"{part!r} is no part of a study: {', '.join([*SECTIONS, 'size', *parts])}."
        )
    return parts[part](name)


def section(name: str, heading: str) -> str:
    """The table or list that comes first under a heading of the study's report."""
    report = (STUDIES / name / "report.md").read_text("utf-8")
    _, found, rest = report.partition(f"\n{heading}\n\n")
    if not found:
        raise PluginError(f"the report of {name} has no section {heading!r}.")
    return rest.partition("\n\n")[0]


def study_file(name: str) -> str:
    """The study file as a block of code."""
    return f"```yaml\n{(STUDIES / name / 'study.yaml').read_text('utf-8').strip()}\n```"


def size(name: str, tongue: Language = "en") -> str:
    """How large a study is, in a sentence."""
    rows = read(name, "results.csv")
    kinds = len({(row["backbone"], row["variant"]) for row in rows})
    counts = (len(rows), len({row["backbone"] for row in rows}), kinds)
    seeds = len({row["seed"] for row in rows})
    hours = sum(float(row["seconds"]) for row in rows) / 3600
    devices = ", ".join(sorted({row["device"] for row in rows}))
    if tongue == "zh":
        runs, backbones, kinds = counts
        return (
            f"共 {runs} 次运行：{backbones} 个主干网络，{kinds} 种网络与变体的组合，"
            f"{seeds} 个种子；合计 {hours:.1f} 小时（{devices}）。"
        )
    runs, backbones, kinds = map(
        counted,
        counts,
        ("run", "backbone", "combination of network and variant"),
        ("runs", "backbones", "combinations of network and variant"),
    )
    return (
        f"{runs}: {backbones}, {kinds}, {counted(seeds, 'seed')}; {hours:.1f} hours in all "
        f"({devices})."
    )


def all_studies() -> str:
    """A row a study."""
    found, total = [], 0
    for name in names():
        rows = read(name, "results.csv")
        counts = [len({row[key] for row in rows}) for key in ("backbone", "variant", "seed")]
        total += len(rows)
        found.append([name, *counts, len(rows)])
    found.append(["**all**", "", "", "", f"**{total}**"])
    return table(["study", "backbones", "variants", "seeds", "runs"], found, right=4)


def value(name: str, backbone: str, variant: str, what: str) -> str:
    """One figure of a study.

    Raises:
        PluginError: the study has no such variant, or there is no such figure.
    """
    if what == "top1":
        found = [row for row in read(name, "results.csv") if is_that(row, backbone, variant)]
        tops = [100 * float(row["top1"]) for row in found if row["top1"]]
        if len(tops) > 1:
            return f"{statistics.mean(tops):.1f} ± {statistics.stdev(tops):.1f}"
    for row in read(name, "results.csv"):
        if is_that(row, backbone, variant) and what == f"seed{row['seed']}" and row["top1"]:
            return f"{100 * float(row['top1']):.1f}"
    for row in read(name, "comparisons.csv"):
        if is_that(row, backbone, variant) and row["baseline"].startswith("plain"):
            mean, low, high = (100 * float(row[key]) for key in ("mean", "low", "high"))
            told = {"difference": f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"}
            told["verdict"] = row["verdict"]
            if what in told:
                return told[what].replace("-", "−")
    if what in WHEN:
        found = [row for row in read(name, "looks.csv") if is_that(row, backbone, variant)]
        then = [row for row in found if row["when"] == WHEN[what]]
        seeds = [statistics.mean(map(ratio, rows)) for rows in by(then, "seed").values()]
        if seeds:
            return "{:.2f} [{:.2f}, {:.2f}]".format(*interval(seeds))
    raise PluginError(f"study {name}: {backbone}, {variant} has no {what!r}.")


def is_that(row: Row, backbone: str, variant: str) -> bool:
    """Whether a row is on this variant of this backbone."""
    return (row["backbone"], row["variant"]) == (backbone, variant)


def looks(name: str) -> str:
    """A row a block: attention on the object over its share of the area, and pointing."""
    found = []
    places = by(read(name, "looks.csv"), "block", "emitter", "path")
    for key, rows in places.items():
        cells = []
        for measure in (ratio, lambda row: float(row["pointing"])):
            for when in ("before", "after"):
                cells.append(spread([measure(row) for row in rows if row["when"] == when]))
        found.append([*key, *cells])
    measures = [
        f"{what}, {when}" for what in ("inside", "pointing") for when in ("before", "after")
    ]
    return table(["block", "of it", "place", *measures], found, right=4)


def ratio(row: Row) -> float:
    """How much more of the attention lies inside the box than if it were even."""
    return float(row["inside"]) / float(row["area"])


def changes(name: str) -> str:
    """A row a variant: how far attention changes what passes through it, after training."""
    found = []
    after = [row for row in read(name, "changes.csv") if row["when"] == "after"]
    for key, rows in by(after, "backbone", "variant").items():
        cells = []
        for measure in ("relative", "deviation"):
            seeds = by(rows, "seed").values()
            means = [100 * statistics.mean(float(row[measure]) for row in seed) for seed in seeds]
            cells.append(spread(means, digits=1))
        found.append([*key, *cells])
    heads = ["backbone", "variant", "change %", "without a constant factor %"]
    return table(heads, found, right=2)


def insertion(name: str) -> str:
    """A row a block and start: top-1 right after it was put into the trained plain network."""
    found = []
    for key, rows in by(read(name, "insertion.csv"), "backbone", "block", "start").items():
        columns = ([100 * float(row[column]) for row in rows] for column in ("plain", "inserted"))
        found.append([*key, *(spread(values, digits=1) for values in columns)])
    heads = ["backbone", "block", "start", "plain %", "right after insertion %"]
    return table(heads, found, right=2)


def deletion(name: str) -> str:
    """A row a variant: top-1, over all shares of the pixels, by attention and by chance."""
    found = []
    for key, rows in by(read(name, "deletion.csv"), "backbone", "variant").items():
        cells = []
        for kind in ("deletion", "insertion"):
            orders = {
                order: [100 * statistics.mean(float(row["top1"]) for row in seed) for seed in seeds]
                for order in ("attention", "random")
                if (seeds := by(of(rows, kind=kind, order=order), "seed").values())
            }
            apart = [a - b for a, b in zip(orders["attention"], orders["random"], strict=True)]
            told = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*interval(apart)).replace("-", "−")
            cells += [spread(values, digits=1) for values in orders.values()] + [told]
        found.append([*key, *cells])
    measures = [
        f"{what}, {cell}"
        for what in ("taken away", "put in")
        for cell in ("by attention %", "random %", "difference")
    ]
    return table(["backbone", "variant", *measures], found, right=6)


def of(rows: Iterable[Row], **wanted: str) -> list[Row]:
    """The rows in which the columns say what is wanted."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean over seeds and its 95% interval, by Student's t."""
    low, high = map(float, mean_interval(values))
    return statistics.mean(values), low, high


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}" if values else "–"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def by(rows: Iterable[Row], *keys: str) -> dict[tuple[str, ...], list[Row]]:
    """The rows in groups, in the order in which these begin."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return dict(groups)


@cache
def read(name: str, file: str) -> list[Row]:
    """The rows of one of a study's tables.

    Raises:
        PluginError: it does not have that table.
    """
    path = STUDIES / name / file
    if not path.is_file():
        raise PluginError(f"study {name} has no {file}.")
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))
