"""Every snippet of the README, the pages and the public docstrings runs, and says what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

import attnzoo

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class ConsoleParser(PythonCodeBlockParser):
    """Blocks fenced as `pycon`, whose output is checked."""

    def __init__(self) -> None:
        super().__init__(doctest_optionflags=FLAGS)
        self.codeblock_parser = CodeBlockParser("pycon", PythonEvaluator())


def docstrings() -> Iterator[doctest.DocTest]:
    """The examples of every docstring in the package."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for info in pkgutil.walk_packages(attnzoo.__path__, "attnzoo."):
        if not info.name.endswith("__main__"):
            module = importlib.import_module(info.name)
            yield from (test for test in finder.find(module) if test.examples)


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch):
    """Snippets may save files."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.usefixtures("in_empty_folder")
def test_the_snippets_of_a_page_run(page):
    document = Sybil([PythonCodeBlockParser(), ConsoleParser(), SkipParser()]).parse(page)
    for example in document.examples():
        example.evaluate()


@pytest.mark.parametrize("example", list(docstrings()), ids=lambda test: test.name)
@pytest.mark.usefixtures("in_empty_folder", "registries")
def test_the_example_of_a_docstring_runs(example):
    printed: list[str] = []
    outcome = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=printed.append)
    assert outcome.failed == 0, "".join(printed)
