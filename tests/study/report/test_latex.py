"""LaTeX tables, from made-up results."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from studies import STUDY, result

from attnzoo.study import Rules, parse_study, summarise
from attnzoo.study.report.latex import escaped, latex_table

PLAIN = [0.50, 0.52, 0.51, 0.53, 0.50]
GOOD = [0.60, 0.61, 0.61, 0.63, 0.61]
LUCKY = [0.95, 0.30, 0.90, 0.35, 0.99]
ALIKE = [0.501, 0.519, 0.510, 0.531, 0.500]
WORSE = [2 * p - g for p, g in zip(PLAIN, GOOD, strict=True)]


def table(found: dict[str, list[float]], **changes: Any) -> str:
    study = parse_study({**STUDY, **changes})
    runs = [
        result(variant, seed, top1)
        for variant, values in {"plain": PLAIN, **found}.items()
        for seed, top1 in enumerate(values)
    ]
    return latex_table(study, summarise(runs, study.controlled, Rules.of(study)), None)


def row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{name} &"))


def test_bold_is_by_verdict_and_not_by_luck() -> None:
    text = table({"good": GOOD, "lucky": LUCKY})
    assert r"$\mathbf{61.2 \pm 1.1}$ & $\mathbf{+10.0\ [+9.1, +10.9]}$" in row(text, "good")
    assert r"$69.8 \pm 34.2$" in row(text, "lucky")  # the largest mean
    assert "mathbf" not in row(text, "lucky")
    assert r"\textbf{Bold}: better at 5\% after correction." in text


def test_the_same_and_worse_have_signs() -> None:
    text = table({"alike": ALIKE, "bad": WORSE}, same_within=0.5)
    assert row(text, "alike").count(r"${}^{\approx}$") == 1
    assert r"${}^{\downarrow}$" in row(text, "bad")
    assert r"within $\pm0.5$ points" in text
    assert r"\approx" not in table({"alike": ALIKE})


def test_controls_have_daggers() -> None:
    study = {"variants": [{"policy": "auto", "block": "se"}], "controls": ["conv"]}
    names = {"auto + se": GOOD, "control: auto + conv like se": ALIKE}
    text = table(names, **study)
    assert row(text, r"auto + conv like se\textsuperscript{\textdagger}")
    assert r"\textsuperscript{\textdagger}: a control without attention." in text
    assert r"\mathbf" in row(text, "auto + se").split("&")[-1]  # over its control
    assert "dagger" not in table({"se": GOOD})


def test_seeds_are_told_once_where_they_are_the_same() -> None:
    assert r"standard deviation over 5 seeds." in table({"se": GOOD})
    text = table({"se": GOOD[:3]})
    assert "over 3 to 5 seeds." in text
    assert row(text, "se").endswith(r"& 3 \\")


def test_one_seed_has_neither_spread_nor_verdict() -> None:
    study = parse_study(STUDY)
    text = latex_table(study, summarise([result("plain", 0, 0.5), result("se", 0, 0.6)]), None)
    assert row(text, "se") == r"se & 0.00 & 0.0 & $60.0$ & $+10.0$ \\"
    assert r"\pm" not in text
    assert "Bold" not in text


def test_signs_that_mean_something_are_escaped() -> None:
    assert escaped("a_b & 5% #1 {x} $y$ ~ ^ \\") == (
        r"a\_b \& 5\% \#1 \{x\} \$y\$ \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_it_compiles(tmp_path: Path) -> None:
    names = {"good_1 & {γ} <50%> ~^\\ #2": GOOD, 'alike → $x$ |"|': ALIKE, "bad": WORSE}
    text = table(names, same_within=0.5, question="Does it help, at 50% of the cost & less?")
    (tmp_path / "table.tex").write_text(text)
    (tmp_path / "page.tex").write_text(
        r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}"
        r"\begin{document}\input{table}\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.search("Missing character|Undefined", done.stdout)
