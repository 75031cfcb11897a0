"""The report as Markdown, with its figures as files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from xml.etree import ElementTree

import yaml
from pages import Page
from PIL import Image
from studies import MEASURED as STUDY

from attnzoo.study import parse_study


def test_the_report_in_markdown(done: Path) -> None:
    text = (done / "report.md").read_text()
    assert text.startswith("# tiny &lt;study>\n\nDoes attention help a tiny net?\n")
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert [table.count("\n") for table in tables] == [4, 3, 3, 4, 11, 4]
    # results, verdicts, images, measures, classes, costs
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "- **no evidence**: training:tiny_net, pre-pool + se against plain: " in text
    assert "$ attnzoo ablate 'tiny <study>.yaml'" in text
    assert "- seeds: 0, 1\n- versions: python" in text
    content = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1]
    assert f"SHA-256 of the file: {hashlib.sha256(content.encode()).hexdigest()}\n" in text
    assert parse_study(yaml.safe_load(content)) == parse_study(STUDY)


def test_markdown_has_what_the_page_has(mapped: Path) -> None:
    """Every word of the page's tables, notes and captions; its drawings as files."""
    page, text = Page((mapped / "report.html").read_text()), (mapped / "report.md").read_text()
    plain = text.replace("\u00a0", " ")
    missing = [
        part
        for part in page.cells
        if part.replace("\u00a0", " ") not in plain and "A wider screen" not in part
    ]
    assert not missing, missing
    for heading in re.findall(r"<h2>(.*?)</h2>", (mapped / "report.html").read_text()):
        assert f"## {heading}\n" in text
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(shown) == len(set(shown)) == len(list((mapped / "figures").iterdir()))
    assert len(shown) == len(page.drawings) + 2  # the overlays of one variant, the test pictures
    for path in shown:
        assert (mapped / path).is_file()


def test_figures_are_files_of_their_own(mapped: Path) -> None:
    for path in (mapped / "figures").glob("*.svg"):
        source = path.read_text()
        assert source.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
        assert not re.search(r"var\(|currentColor", source)
        ElementTree.fromstring(source)
    strips = sorted((mapped / "figures").glob("*.jpg"))
    assert [path.name.partition("-")[0] for path in strips] == ["data.jpg", "maps"]
    assert [Image.open(path).size for path in strips] == [(8 * 100 - 4, 96), (96, 96)]
