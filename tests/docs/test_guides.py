"""What README, pages and guides show beside Python: study files are such, commands are there."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from places import ROOT

from attnzoo.cli.app import app
from attnzoo.study import parse_study

pytestmark = pytest.mark.no_cover

GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
TEXTS = {page.name: page.read_text("utf-8") for page in GUIDES if ".zh." not in page.name}
PAGES = {page.name: page.read_text("utf-8") for page in (ROOT / "docs").glob("*.md")}
README = (ROOT / "README.md").read_text("utf-8")
STUDIES = [
    pytest.param(block, id=name)
    for name, text in {**TEXTS, "README.md": README}.items()
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]
# A block may be a part of a program, or of a command that goes on in the next line.
COMMANDS = [
    pytest.param(command.partition("  #")[0], id=f"{name}: {command[:40]}")
    for name, text in {**TEXTS, **PAGES, "README.md": README}.items()
    if ".zh." not in name
    for command in re.findall(r"^\$ attnzoo (.*)$", text, re.MULTILINE)
]


@pytest.mark.parametrize("block", STUDIES)
def test_the_study_files_of_guides_and_readme_are_right(block: str) -> None:
    study = parse_study(yaml.safe_load(block))
    assert study.question
    assert len(study.variants) > 1


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_readme_and_pages_are_understood(command: str) -> None:
    app.parse_args(shlex.split(command), exit_on_error=False, print_error=False)


def test_blocks_that_are_not_run_say_why() -> None:
    for name, text in TEXTS.items():
        for reason in re.findall(r"<!-- skip: next(.*?)-->", text):
            assert len(reason) > 10, name
