"""Every snippet of the README, the pages and the public docstrings runs, and says what it says."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import runpy
import sys

import pytest
from places import ROOT
from site_pages import generated
from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

import attnzoo

pytestmark = pytest.mark.no_cover

# The Chinese pages hold the blocks of the English ones.
PAGES = [
    page
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    if not page.name.endswith(".zh.md")
]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "attnzoo").rglob("*.py")
    if path.stem != "__main__"
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class ConsoleParser(PythonCodeBlockParser):
    """Blocks fenced as `pycon`, whose output is checked."""

    def __init__(self) -> None:
        super().__init__(doctest_optionflags=FLAGS)
        self.codeblock_parser = CodeBlockParser("pycon", PythonEvaluator())


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch):
    """Snippets may save files."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
@pytest.mark.usefixtures("in_empty_folder", "registries")
def test_the_snippets_of_a_page_run(page):
    document = Sybil([PythonCodeBlockParser(), ConsoleParser(), SkipParser()]).parse(page)
    for example in document.examples():
        example.evaluate()


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.usefixtures("in_empty_folder", "registries")
def test_the_examples_in_the_docstrings_of_a_module_run(module):
    runner, printed = doctest.DocTestRunner(optionflags=FLAGS), []
    for example in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module)):
        runner.run(example, out=printed.append)
    assert not runner.failures, "".join(printed)


def test_the_api_page_has_everything_public():
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    documented = {line.rpartition(".")[2] for line in page.splitlines() if line.startswith(":::")}
    rooms = {name for name in attnzoo.__all__ if inspect.ismodule(getattr(attnzoo, name))}
    assert not set(attnzoo.__all__) - rooms - documented


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(ROOT / "docs").rglob("*.zh.md")],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_the_links_of_a_page_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    made = {(ROOT / "docs" / name).resolve() for name in generated.pages()}
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        path = (page.parent / target).resolve()
        assert path.exists() or path in made, target


def test_the_drawings_are_what_their_script_draws(tmp_path, monkeypatch):
    script = ROOT / "docs" / "figures" / "draw.py"
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path)])
    runpy.run_path(str(script), run_name="__main__")
    assert len(list(tmp_path.glob("*.svg"))) > 5
    for drawn in tmp_path.glob("*.svg"):
        kept = ROOT / "docs" / "assets" / drawn.name
        assert kept.read_text("utf-8") == drawn.read_text("utf-8"), f"{script} was not run"
