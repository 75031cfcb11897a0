"""The site says the same in English and Chinese, and its generated pages what the code says."""

from __future__ import annotations

import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import site_pages
import torch
import yaml
from places import ROOT
from site_pages import DOCS, PAIRS, blocks_of, headings_of, pictures_of, text
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from attnzoo.registry import BLOCKS, POLICIES

pytestmark = pytest.mark.no_cover

import explorer  # noqa: E402
import policy_page  # noqa: E402
import zoo_facts  # noqa: E402
import zoo_flow  # noqa: E402
import zoo_page  # noqa: E402
import zoo_words  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _quick_pages() -> Iterator[None]:
    """Pages with what is measured on small maps; `make docs` measures all of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo_page, "SIZES", ((64, 14),))
        patch.setattr(zoo_page, "reach", lambda _: zoo_facts.Reach("map", 14, "all", 64))
        yield
    site_pages.generated.text.cache_clear()


GENERATED = sorted(site_pages.generated.pages())


@pytest.mark.parametrize("page", PAIRS)
def test_a_chinese_page_has_what_its_english_one_has(page: str) -> None:
    english, chinese = text(page), text(page, "zh")
    assert headings_of(chinese) == headings_of(english)
    assert blocks_of(chinese) == blocks_of(english)
    assert pictures_of(chinese) == pictures_of(english)
    assert re.search(r"[\u4e00-\u9fff]", chinese)


def test_ninety_pages_and_thirty_in_chinese() -> None:
    assert len(site_pages.all_pages()) + len(PAIRS) >= 90
    assert len(PAIRS) >= 30


@pytest.mark.parametrize("page", GENERATED)
@pytest.mark.usefixtures("registries")
def test_the_code_of_a_generated_page_runs(page: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(text(page), "utf-8")
    examples = list(Sybil([PythonCodeBlockParser(), SkipParser()]).parse(path).examples())
    assert examples
    with torch.device("meta"):  # whether it is understood; what it computes others test
        for example in examples:
            example.evaluate()


@pytest.mark.parametrize("page", GENERATED)
def test_the_links_of_a_generated_page_lead_somewhere(page: str) -> None:
    known = {(DOCS / name).resolve() for name in site_pages.all_pages()}
    for tongue in ("en", "zh"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text(page, tongue)):
            assert (DOCS / page).parent.joinpath(target).resolve() in known, target


def test_every_picture_has_a_text_for_those_who_do_not_see_it() -> None:
    for page in sorted(site_pages.all_pages()):
        for tongue in ("en", "zh") if page in PAIRS else ("en",):
            said = text(page, tongue)
            assert not re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=\"[^\"]+)", said), page
            assert not re.search(r"<!-- drawing: [^|]*-->|aria-label=\"\"", said), page


def test_of_every_block_a_formula_and_a_drawing_are_written() -> None:
    assert set(zoo_words.by_hand()) == {spec.name for spec in BLOCKS}


@pytest.mark.parametrize("name", [spec.name for spec in BLOCKS])
def test_the_chinese_of_a_block_says_what_its_docstring_says_now(name: str) -> None:
    spec, hand = BLOCKS[name], zoo_words.by_hand()[name]
    assert hand.of == zoo_words.checksum(spec), (
        f"The docstring or the limits of {name} changed. See that the Chinese in docs/hooks/zoo "
        f"says the same, then write `of: {zoo_words.checksum(spec)}` there."
    )
    assert set(hand.zh.get("limits", {})) == set(spec.limits)
    assert bool(hand.zh["notes"].strip()) == bool(zoo_page.docstring_parts(spec)[1])


@pytest.mark.parametrize("name", [spec.name for spec in POLICIES])
def test_the_chinese_of_a_policy_says_what_its_docstring_says_now(name: str) -> None:
    spec, chinese = POLICIES[name], policy_page.translated()[name]
    assert str(chinese["of"]) == policy_page.checksum(spec), (
        f"The docstring of {name} changed. See that the Chinese in docs/hooks/policies.yaml says "
        f"the same, then write `of: {policy_page.checksum(spec)}` there."
    )
    assert set(chinese.get("options", {})) == set(spec.options)


@pytest.mark.parametrize("name", [spec.name for spec in BLOCKS])
def test_what_has_parameters_is_drawn_so(name: str) -> None:
    learned = any(
        has for lane in zoo_flow.lanes(zoo_words.by_hand()[name].flow) for _, has in lane.steps
    )
    assert learned == bool(list(BLOCKS[name].build(64).parameters()))


def test_the_reach_is_measured() -> None:
    reach = zoo_facts.reach
    assert reach("spatial") == zoo_facts.Reach("window", 7, "all", 256)
    assert reach("nam") == zoo_facts.Reach("position", 1, "own", 1)
    assert reach("eca") == zoo_facts.Reach("map", 41, "some", 5)  # k = 5 at C = 256
    assert reach("strip") == zoo_facts.Reach("lines", 3, "all", 256)


def test_costs_are_those_of_the_formulas() -> None:
    found = zoo_facts.cost("se", 256, 56)
    assert found.parameters == 2 * 256 * 16 + 16 + 256
    assert found.macs == 2 * 256 * 16
    assert found.kept == pytest.approx(1, abs=0.01)  # x itself
    assert zoo_facts.cost("none", 256, 56).kept == 0


def test_a_study_that_is_published_is_on_the_pages_of_its_blocks(tmp_path, monkeypatch) -> None:
    before = ROOT / "tests" / "data" / "before" / "study"
    shutil.copytree(before, tmp_path / "before", ignore=shutil.ignore_patterns("runs"))
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(zoo_facts, "STUDIES", tmp_path)
    found = zoo_facts.comparisons.__wrapped__()
    assert list(found) == ["cbam"]
    monkeypatch.setattr(zoo_page, "comparisons", lambda: found)
    shown = zoo_page.compared(BLOCKS["cbam"], "en")
    assert "| before | `timm/test_resnet` | post-residual + cbam | plain | +0.0 [" in shown
    assert "no evidence |" in shown
    assert "No study" in zoo_page.compared(BLOCKS["se"], "en")


@pytest.mark.parametrize(
    ("flow", "why"),
    [
        ("x | mean", "does not say what it gives"),
        ("x => gate\ny × gate => y", "no lane before it gives y"),
        ("x => gate\nx => y", "nothing takes gate"),
        ("x => gate\nx × gate => z", "gives z, not y"),
        ("*conv => y", "begins with a step"),
    ],
)
def test_a_drawing_that_does_not_add_up_is_refused(flow: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        zoo_flow.lanes(flow)


def test_folders_of_the_navigation_hold_all_their_pages() -> None:
    order = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["extra"]["order"]
    guides = site_pages.generated._folder("guides", order)
    assert {Path(path).stem for path in guides} == set(order["guides"])
    zoo = site_pages.generated._folder("zoo", order)
    listed = [path for kind in zoo for paths in kind.values() for path in paths]
    assert sorted(listed) == [page for page in GENERATED if page.startswith("zoo/")]


def test_the_table_of_blocks_has_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "SIDE", 14)
    monkeypatch.setattr(explorer, "reach", zoo_page.reach)
    for tongue in ("en", "zh"):
        table = explorer.explorer(tongue)
        for spec in BLOCKS:
            assert f"[`{spec.name}`](zoo/" in table
        assert table.count("\n| ") == len(list(BLOCKS)) + 1


def test_every_version_keeps_its_site(tmp_path: Path) -> None:
    release = runpy.run_path(str(DOCS / "release.py"))["release"]
    site, folder = tmp_path / "site", tmp_path / "versions"
    with pytest.raises(FileNotFoundError, match="make docs"):
        release(site, folder, "0.9.0")
    site.mkdir()
    for version in ("0.9.0", "0.10.0", "0.9.0"):
        (site / "index.html").write_text(version, "utf-8")
        release(site, folder, version)
    assert (folder / "0.9.0" / "index.html").read_text("utf-8") == "0.9.0"
    page = (folder / "index.html").read_text("utf-8")
    assert "url=0.10.0/index.html" in page
    assert page.index(">0.10.0<") < page.index(">0.9.0<")
