"""Reports: what they show, that they need nothing but themselves, and that they come again."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image
from places import ROOT
from rich.console import Console
from studies import STUDY as UNMEASURED
from studies import Log
from training import make_folder

from attnzoo.errors import StudyError
from attnzoo.study import (
    parse_study,
    read_folder,
    run_study,
    study_table,
    write_comparison,
    write_report,
)
from attnzoo.study.numbers import measure
from attnzoo.study.report.looks import MARKERS, PALETTE, PLAIN, glyph, variant_looks
from attnzoo.study.report.overlays import overlay
from attnzoo.study.report.table import study_rows
from attnzoo.study.report.wording import capacity
from attnzoo.study.runs.failures import note_failure
from attnzoo.train import Watch

STUDY: dict[str, Any] = {**UNMEASURED, "measure": True}
WITH_MAPS: dict[str, Any] = {
    **STUDY,
    "variants": [
        {"policy": "pre-pool", "block": "cbam"},
        {"policy": "pre-pool", "block": "eca"},
    ],
    "controls": ["conv"],
}


@pytest.fixture(scope="module", autouse=True)
def _short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study. Tests only read it."""
    folder = tmp_path_factory.mktemp("study")
    run_study(STUDY, folder, watch=Watch())
    return folder


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose variants have spatial and channel maps, and controls. Tests only read it."""
    folder = tmp_path_factory.mktemp("mapped")
    run_study(WITH_MAPS, folder, watch=Watch())
    return folder


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, done: Path, mapped: Path) -> Path:
    """A comparison of the two."""
    return write_comparison([done, mapped], tmp_path_factory.mktemp("compared")).parent


# The report


class Page(HTMLParser):
    """The attributes that a browser would fetch from, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.drawings: list[str] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = ("src", "href", "xlink:href", "data", "srcset", "action", "poster")
        named = dict(attrs)
        if tag == "svg" and named.get("role") == "img" and " at " not in str(named["aria-label"]):
            self.drawings.append(str(named["aria-label"]))
        self.fetched += [value or "" for name, value in attrs if name in names]

    def handle_data(self, data: str) -> None:
        self.text += data
        shown = self.tags and self.tags[-1] in ("td", "th", "small", "p", "figcaption", "li", "dd")
        if shown and data.strip():
            self.cells.append(data.strip())


def test_the_report_fetches_nothing(done: Path) -> None:
    source = (done / "report.html").read_text()
    page = Page(source)
    assert page.fetched
    assert all(value.startswith(("data:", "#")) for value in page.fetched)
    assert not re.search(r"https?://|//\w+\.\w+/|@import|url\((?!#)", source)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"\bon\w+=", source)  # no code at all, so none that fails


def test_the_report_shows_numbers_plots_and_pictures(done: Path) -> None:
    page = Page((done / "report.html").read_text())
    for record in read_folder(done)[1]:
        assert record.result.variant in page.text
    net = "training:tiny_net"
    costs = ("parameters", "MACs", "latency", "memory")
    fronts = [f"pareto-{cost}-{net}" for cost in costs]
    assert page.drawings == ["effects", "accuracy", *fronts, f"curves-{net}"]
    assert page.tags.count("img") == 9  # eight of the data, one above the attention maps
    assert "Does attention help a tiny net?" in page.text
    assert "95% interval" in page.text
    assert "policy: pre-pool, block: se" in page.text
    assert "torch " in page.text


def test_names_are_escaped(done: Path) -> None:
    assert "<study>" not in (done / "report.html").read_text()
    assert "tiny <study>" in Page((done / "report.html").read_text()).text


def test_svg_identifiers_are_unique(done: Path) -> None:
    source = (done / "report.html").read_text()
    ids = re.findall(r'\bid="([^"]+)"', source)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', source))
    for pair in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', source):
        assert (pair[0] or pair[1]) in ids


def test_the_report_judges(done: Path) -> None:
    page = Page((done / "report.html").read_text())
    assert "not finished" not in page.text
    for part in ("Verdicts", "no evidence", "p permutation", "p Holm", "more seeds", "points: "):
        assert part in page.text
    with (done / "comparisons.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["variant"], row["baseline"], row["seeds"]) == ("pre-pool + se", "plain", "2")
    assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])
    assert float(row["p_corrected"]) == float(row["p"])
    assert float(row["p_permutation"]) >= 0.5
    assert row["verdict"] == "no evidence"


def test_a_margin_is_told_everywhere(tmp_path: Path, done: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "copy")
    asked = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**asked, "same_within": 30}))
    for i, record in enumerate(read_folder(folder)[1]):
        told = record.result.model_copy(update={"top1": 0.1 * i**1.1})
        (record.folder / "result.json").write_text(told.model_dump_json())
    page = Page(write_report(folder).read_text())
    for part in (
        "within 30 points of each other count as the same",
        "p Holm / same",
        "more seeds / same",
    ):
        assert part in page.text
    assert "band: ±30" in page.text
    assert re.search(r"\d+ / \d+ / \d+\n", page.text)
    assert "same_within: 30.0" in page.text
    with (folder / "comparisons.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["margin"]) == 0.3
    assert 0 < float(row["p_same"]) == float(row["p_same_corrected"]) < 1
    chances = [float(row[f"probability_{name}"]) for name in ("worse", "same", "better")]
    assert sum(chances) == pytest.approx(1)


def test_a_study_that_screens_says_so(tmp_path: Path, done: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "copy")
    asked = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**asked, "correction": "fdr"}))
    page = Page(write_report(folder).read_text())
    for part in ("This study screens", "Benjamini and Hochberg's correction over all", "p FDR"):
        assert part in page.text
    assert "p Holm" not in page.text
    out = io.StringIO()
    Console(file=out, width=180).print(study_table(folder))
    assert "p (FDR)" in out.getvalue()


def test_the_report_in_markdown(done: Path) -> None:
    text = (done / "report.md").read_text()
    assert text.startswith("# tiny <study>\n\nDoes attention help a tiny net?\n")
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert [table.count("\n") for table in tables] == [4, 3, 4]  # results, verdicts, costs
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "- **no evidence**: training:tiny_net, pre-pool + se against plain: " in text
    assert "$ attnzoo ablate 'tiny <study>.yaml'" in text
    assert "- seeds: 0, 1\n- versions: python" in text
    content = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1]
    assert f"SHA-256 of the file: {hashlib.sha256(content.encode()).hexdigest()}\n" in text
    assert parse_study(yaml.safe_load(content)) == parse_study(STUDY)


def test_controls_are_run_and_compared_with(tmp_path: Path) -> None:
    study = {**STUDY, "controls": ["conv"], "train": {**STUDY["train"], "epochs": 1}}
    outcome = run_study(study, tmp_path, watch=Watch())
    control = "control: pre-pool + conv like se"
    assert [r.result.variant for r in outcome.records[:3]] == ["plain", "pre-pool + se", control]
    with (tmp_path / "comparisons.csv").open(newline="") as file:
        pairs = [(row["variant"], row["baseline"]) for row in csv.DictReader(file)]
    assert pairs == [("pre-pool + se", "plain"), ("pre-pool + se", control), (control, "plain")]
    assert f"pre-pool + se against {control}: " in (tmp_path / "report.md").read_text()
    out = io.StringIO()
    Console(file=out, width=200).print(study_table(tmp_path))
    assert "vs control" in out.getvalue()


def test_one_seed_is_no_verdict(tmp_path: Path) -> None:
    text = run_study({**STUDY, "seeds": [0]}, tmp_path, watch=Watch()).report.read_text()
    assert "One seed a variant" in text
    assert "95% interval" not in text
    assert "Verdicts" not in text
    told = (tmp_path / "report.md").read_text()
    assert "One seed a variant" in told
    assert "| verdict" not in told
    assert "## Verdicts" not in told


def test_the_report_comes_again_from_the_folder_alone(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", {"cat": 4, "dog": 4})
    study = {
        **STUDY,
        "data": {"name": "folder", "root": str(root), "size": 12},
        "train": {"epochs": 1, "batch_size": 4, "device": "cpu"},
        "seeds": [0],
    }
    run_study(study, tmp_path / "out", watch=Watch())
    (tmp_path / "images").rename(tmp_path / "gone")
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    before = (moved / "report.html").read_text()
    (moved / "report.html").unlink()
    (moved / "results.csv").unlink()
    again = write_report(moved).read_text()
    unstamped = [re.sub(r"written .*", "", text) for text in (before, again)]
    assert unstamped[0] == unstamped[1]
    assert (moved / "results.csv").exists()


def test_an_unfinished_study_has_a_report_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_study(STUDY, tmp_path, watch=Log(stop_at=1))
    text = write_report(tmp_path).read_text()
    assert "of 4" in text
    assert "The study is not finished" in text


def test_a_run_that_failed_is_told(tmp_path: Path, done: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "copy")
    run = read_folder(folder)[1][1]
    shutil.rmtree(run.folder)
    note_failure(run.folder, run.spec, "RuntimeError: the disk is full.")
    for text in (write_report(folder).read_text(), (folder / "report.md").read_text()):
        assert "pre-pool + se, seed 0 failed: RuntimeError: the disk is full." in text
        assert "The study is not finished, 3 of 4 runs are done" in text


def test_no_study_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no study"):
        write_report(tmp_path)
    (tmp_path / "study.json").write_text('{"name": 3')
    with pytest.raises(StudyError, match="damaged"):
        write_report(tmp_path)


def test_the_terminal_table(done: Path) -> None:
    out = io.StringIO()
    Console(file=out, width=180).print(study_table(done))
    text = out.getvalue()
    for part in (
        *("training:tiny_net", "plain", "pre-pool + se", "±", "["),
        *("p (Holm)", "verdict", "no evidence", "more seeds"),
    ):
        assert part in text


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


def test_a_new_report_leaves_no_figure_of_the_old_one(tmp_path: Path, done: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "copy")
    (folder / "figures" / "old.svg").write_text("<svg/>")
    write_report(folder)
    assert not (folder / "figures" / "old.svg").exists()
    assert not list(folder.glob(".*"))


def test_costs_stand_beside_accuracy(done: Path) -> None:
    page = Page((done / "report.html").read_text())
    assert {"ms an image", "over plain", "images/s", "kept, MB"} <= set(page.cells)
    assert "peak, MB" not in page.cells  # no CUDA here
    assert re.search(r"cpu, \d+ threads, 3 turns, and 3 of batches of 16, 20", page.text)
    # The plain network is the cheapest by every count.
    plain = page.text[page.text.index("Cost beside accuracy") :].split("pre-pool + se")[0]
    assert plain.count("★") >= 2


def test_a_study_that_was_not_measured_says_so(tmp_path: Path, done: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "copy")
    (folder / "costs.json").unlink()
    page = Page(write_report(folder).read_text())
    assert "Latency, throughput and memory were not measured." in page.text
    assert "images/s" not in page.cells
    assert len(page.drawings) == 5  # the fronts of latency and memory are missing


def test_controls_of_another_size_are_pointed_out(mapped: Path) -> None:
    study, records = read_folder(mapped)
    (told,) = capacity(study, study_rows(study, records))
    assert told == (
        "training:tiny_net, pre-pool + eca: the control 'control: pre-pool + conv like eca' "
        "has +33 parameters against +11, so it is larger than the attention."
    )
    for file in ("report.html", "report.md"):
        assert "has +33 parameters against +11" in (mapped / file).read_text()


def test_maps_are_laid_over_one_test_picture(mapped: Path) -> None:
    source = (mapped / "report.html").read_text()
    assert source.count('<img src="data:image/jpeg;base64,') == 1  # cbam's spatial gate
    assert source.count("<polyline") == 2  # the channel gates of cbam and of eca
    assert "spatial_gate at attn_pre_3" in source
    assert re.search(r"0\.\d+–0\.\d+, γ 0\.\d{3}", source)


def test_an_overlay_is_dark_where_attention_is_low() -> None:
    out = io.BytesIO()
    Image.new("L", (8, 8), 255).save(out, format="PNG")
    heat = np.tile(np.linspace(0.2, 0.9, 8, dtype=np.float32), (8, 1))
    pixels = np.asarray(Image.open(io.BytesIO(overlay(out.getvalue(), heat))), dtype=float)
    assert pixels.shape == (96, 96, 3)
    lightness = pixels.mean((0, 2))
    assert lightness[-8:].min() > lightness[:8].max() + 80
    assert (np.diff(lightness[::8]) > -3).all()
    flat = np.asarray(Image.open(io.BytesIO(overlay(out.getvalue(), heat * 0))), dtype=float)
    assert flat.std((0, 1)).max() < 2


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("paper", ["#fcfcfb", "#ffffff", "#15171a", "#1c1f24"])
def test_colours_stand_out_on_light_and_dark_paper(paper: str) -> None:
    source = (ROOT / "attnzoo/study/report/templates/page.html.j2").read_text()
    assert paper in source
    for colour in (*PALETTE, PLAIN):
        light, dark = sorted((luminance(colour), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


def test_many_variants_look_different(done: Path) -> None:
    plain, other = read_folder(done)[1][:2]
    many = [
        replace(other, result=other.result.model_copy(update={"variant": f"block {i}"}))
        for i in range(50)
    ]
    looks = variant_looks([plain, *many])
    assert len({(look.colour, look.marker) for look in looks.values()}) == 51
    assert len({(look.colour, look.line) for look in list(looks.values())[:29]}) == 29
    assert all(MARKERS[look.marker] in glyph(look) for look in looks.values())


def test_environments_of_runs_are_told(tmp_path: Path, done: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "copy")
    for i, run in enumerate(sorted((folder / "runs").iterdir())):
        git = {"commit": f"c{i % 2}", "dirty": i == 1}
        noted = {"git": git, "command": ["attnzoo", "ablate"], "host": None, "gpus": []}
        (run / "environment.json").write_text(json.dumps([noted]))
    page = Page(write_report(folder).read_text())
    assert re.search(r"git commit\s*(c0 / c1|c1 / c0)", page.text)
    assert re.search(r"command\s*attnzoo ablate", page.text)
    assert re.search(r"uncommitted changes\s*no / yes", page.text)
    assert "host" not in page.text
    assert "GPUs" not in page.text


# In a browser

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; on Debian, `apt-get install chromium` brings it")
    playwright = pytest.importorskip("playwright.sync_api")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


def look_at(browser: Any, path: Path, width: int, scheme: str) -> tuple[list[str], Any]:
    """What is wrong with a page, and what it measures."""
    wrong: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    page.on("console", lambda message: wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url == path.as_uri() or request.url.startswith("data:")
            else wrong.append(f"request: {request.url}")
        ),
    )
    page.goto(path.as_uri())
    measured = page.evaluate(
        """() => ({
            width: document.documentElement.scrollWidth,
            paper: getComputedStyle(document.body).backgroundColor,
            broken: [...document.images].filter(image => !image.naturalWidth).length,
            images: document.images.length,
            outside: [...document.querySelectorAll("td, th, p, dd, figcaption, svg[role=img]")]
                .filter(e => e.getBoundingClientRect().right > innerWidth + 1
                    && !e.closest("thead")).map(e => e.textContent.slice(0, 40)),
        })"""
    )
    context.close()
    return wrong, measured


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_finds_nothing_wrong(
    browser: Any, mapped: Path, compared: Path, width: int, scheme: str
) -> None:
    for folder in (mapped, compared):
        wrong, measured = look_at(browser, folder / "report.html", width, scheme)
        assert wrong == []
        assert measured["broken"] == 0
        assert measured["width"] == width
        assert measured["outside"] == []
        paper = {"light": "rgb(252, 252, 251)", "dark": "rgb(21, 23, 26)"}
        assert measured["paper"] == paper[scheme]
        assert bool(measured["images"]) == (folder == mapped)


def test_the_browser_would_find_what_is_wrong(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "wrong.html"
    path.write_text(
        '<img src="http://example.invalid/a.png"><p style="width: 500px">wide</p>'
        '<script>console.error("told"); missing()</script>'
    )
    wrong, measured = look_at(browser, path, 360, "light")
    assert any("request: http://example.invalid" in line for line in wrong)
    assert "console: told" in wrong
    assert any("missing is not defined" in line for line in wrong)
    assert measured["broken"] == 1
    assert measured["outside"] == ["wide"]
    assert measured["width"] > 360
