"""Names of the user's in reports: a $ is a $, HTML is text, a line break breaks no table."""

from __future__ import annotations

from attnzoo.study.report.drawing import new_figure, svg
from attnzoo.study.report.markdown import _joined
from attnzoo.study.report.sheets import Sheet


def test_a_dollar_is_no_mathematics() -> None:
    figure, axes = new_figure(2, 2)
    for y, name in enumerate(("SE $r^{16$ {a}", "$x$", "a $\\frac{")):
        axes.text(0, y, name)
    axes.set_title("$title^{")
    drawn = svg(figure, "names")
    assert "SE $r^{16$ {a}" in drawn
    assert "$x$" in drawn


def test_markdown_shows_names_and_does_not_obey_them() -> None:
    rows = [("net", ("<b>bold</b>\n# no heading | no cell", "<0.001"))]
    sheet = Sheet.of(("variant", "p"), rows).markdown()
    assert len(sheet.splitlines()) == 3
    told = _joined([sheet, "```yaml\na: <b>\n```"])
    assert "&lt;b>bold&lt;/b> # no heading \\| no cell" in told
    assert "<0.001" in told
    assert "a: <b>" in told
