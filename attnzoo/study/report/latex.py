"""A study's results as a LaTeX table that can stand in a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attnzoo.study.definition import Study
from attnzoo.study.numbers import METRICS, Costs, Difference, Summary
from attnzoo.study.report.drawing import short_name
from attnzoo.study.report.table import CORRECTIONS, comparisons, small_p

__all__ = ["escaped", "latex_table"]

SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": r"$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "→": r"$\to$",
    "γ": r"$\gamma$",
}
"""What means something else in LaTeX, or is in none of its usual fonts."""

DAGGER = r"\textsuperscript{\textdagger}"
SAME, WORSE = r"\approx", r"\downarrow"


def escaped(text: str) -> str:
    r"""Text as LaTeX sets it literally.

    Example:
        >>> escaped("se_ratio=25%")
        'se\\_ratio=25\\%'
    """
    return "".join(SPECIAL.get(sign, sign) for sign in text)


def latex_table(study: Study, rows: Sequence[Summary], costs: Costs | None) -> str:
    """A `table` with booktabs' rules, a group a backbone.

    Bold is what the study calls better, and not the largest number. Columns that are empty are
    left out, as are the costs that were not measured. It takes the package booktabs.

    Args:
        study: what was settled beforehand.
        rows: its summaries.
        costs: what was measured.
    """
    lines = [(row, _cells(study, row, costs)) for row in rows]
    headings = [escaped(METRICS[study.metric].heading) if h is None else h for h in HEADINGS]
    shown = [i for i in range(len(HEADINGS)) if any(cells[i] for _, cells in lines)]
    if len({cells[-1] for _, cells in lines}) == 1:  # said below
        shown.pop()
    body = []
    for i, (row, cells) in enumerate(lines):
        if i == 0 or row.backbone != lines[i - 1][0].backbone:
            body += [r"\midrule"]
            name = escaped(short_name(row.backbone))
            body.append(rf"\multicolumn{{{len(shown)}}}{{l}}{{\emph{{{name}}}}} \\")
        body.append(f"{' & '.join(cells[i] for i in shown)} \\\\")
    label = re.sub(r"[^a-zA-Z0-9]+", "-", study.name).strip("-")
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(study.question or study.name)}}}",
            rf"\label{{tab:{label}}}",
            r"\small",
            r"\setlength{\tabcolsep}{4pt}",
            rf"\begin{{tabular}}{{l{'r' * (len(shown) - 1)}}}",
            r"\toprule",
            f"{' & '.join(headings[i] for i in shown)} \\\\",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip",
            r"\begin{minipage}{\linewidth}\footnotesize",
            *_notes(study, rows),
            r"\end{minipage}",
            r"\end{table}",
            "",
        ]
    )


HEADINGS = (
    "variant",
    "params (M)",
    "MACs (M)",
    "ms an image",
    None,  # the metric
    r"$\Delta$ plain",
    "$p$",
    r"$\Delta$ control",
    "seeds",
)


def _cells(study: Study, row: Summary, costs: Costs | None) -> tuple[str, ...]:
    measured = costs.of(row.backbone, row.variant) if costs else None
    return (
        _name(study, row.variant),
        f"{row.parameters / 1e6:.2f}",
        f"{row.macs / 1e6:.1f}",
        "" if measured is None else f"{measured.latency.median:.2f}",
        _accuracy(row),
        _difference(row.difference),
        _p(row.difference),
        _difference(row.beyond),
        str(row.seeds) + (f" ({row.diverged} diverged)" if row.diverged else ""),
    )


def _name(study: Study, variant: str) -> str:
    if variant not in study.control_titles:
        return escaped(variant)
    return escaped(variant.removeprefix("control: ")) + DAGGER


def _accuracy(row: Summary) -> str:
    if row.score is None:
        return "diverged"
    spread = "" if row.deviation is None else rf" \pm {100 * row.deviation:.1f}"
    better = row.difference is not None and row.difference.verdict == "better"
    return _math(f"{100 * row.score:.1f}{spread}", bold=better)


def _difference(found: Difference | None) -> str:
    """Points with the 95% interval, bold where better, with a sign where worse or the same."""
    if found is None:
        return ""
    sign = {"worse": WORSE, "same": SAME}.get(found.verdict or "", SAME if found.is_small else "")
    interval = ""
    if found.low is not None and found.high is not None:
        interval = rf"\ [{100 * found.low:+z.1f}, {100 * found.high:+z.1f}]"
    told = _math(f"{100 * found.mean:+z.1f}{interval}", bold=found.verdict == "better")
    return f"{told}${{}}^{{{sign}}}$" if sign else told


def _p(found: Difference | None) -> str:
    if found is None or found.p_corrected is None:
        return ""
    return "$<$0.001" if found.p_corrected < 0.001 else small_p(found.p_corrected)


def _math(text: str, *, bold: bool) -> str:
    return rf"$\mathbf{{{text}}}$" if bold else f"${text}$"


def _notes(study: Study, rows: Sequence[Summary]) -> list[str]:
    """What the signs mean and how it was tested."""
    judged = [found for _, found in comparisons(rows) if found.verdict]
    said = []
    seeds = sorted({row.seeds for row in rows})
    if seeds[-1] > 1:
        told = " to ".join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))
        said.append(rf"Mean $\pm$ standard deviation over {told} seeds.")
    if judged:
        count = f"{len(judged)} comparison{'' if len(judged) == 1 else 's'}"
        said.append(
            r"$\Delta$: mean paired difference in points with its 95\% interval; $p$: paired $t$ "
            f"test after {CORRECTIONS[study.correction]} correction over {count}. "
            r"\textbf{Bold}: better at 5\% after correction."
        )
    if any(found.verdict == "worse" for found in judged):
        said.append(rf"${{}}^{{{WORSE}}}$: worse.")
    if any(found.verdict == "same" or found.is_small for found in judged):
        said.append(
            rf"${{}}^{{{SAME}}}$: within $\pm{study.same_within:g}$ points, by two one-sided $t$ "
            "tests under the same correction."
        )
    if any(row.variant in study.control_titles for row in rows):
        said.append(rf"{DAGGER}: a control without attention.")
    return said
