"""The pages of the site: those that are files, and those that its hooks make."""

from __future__ import annotations

import re
import sys

from places import ROOT

DOCS = ROOT / "docs"
HOOKS = DOCS / "hooks"
sys.path.append(str(HOOKS))  # last: its `site` is not Python's

import generated  # noqa: E402
from shared import CHINESE, in_language  # noqa: E402

__all__ = [
    "DOCS",
    "HOOKS",
    "PAIRS",
    "all_pages",
    "blocks_of",
    "generated",
    "headings_of",
    "pictures_of",
    "text",
]

#: English pages that have a Chinese one.
PAIRS = sorted(
    [
        path.relative_to(DOCS).as_posix().removesuffix(CHINESE) + ".md"
        for path in DOCS.rglob(f"*{CHINESE}")
    ]
    + list(generated.pages())
)
_FENCE = re.compile(r"^( *)```(.*?)^\1```", re.MULTILINE | re.DOTALL)


def all_pages() -> set[str]:
    """Every English page, as a path within docs/."""
    files = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    return {name for name in files if not name.endswith(CHINESE)} | set(generated.pages())


def text(page: str, tongue: str = "en") -> str:
    """The Markdown of a page in a language."""
    if page in generated.pages():
        return generated.text(page, tongue)
    return (DOCS / in_language(page, tongue)).read_text("utf-8")


def blocks_of(markdown: str) -> list[str]:
    """Its blocks of code, without the comments, which are in its language."""
    return [re.sub(r" *#.*", "", block) for _, block in _FENCE.findall(markdown)]


def headings_of(markdown: str) -> list[int]:
    """The levels of its headings, in order."""
    found = re.findall(r"^(#+) ", _FENCE.sub("", markdown), re.MULTILINE)
    return [len(marks) for marks in found]


def pictures_of(markdown: str) -> list[str]:
    """What it shows beside text: pictures, drawings, and what is put in when the site is built."""
    markdown = _FENCE.sub("", markdown)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", markdown)
    comments = re.findall(
        r"^<!-- (?!skip)([\w-]+(?:: [^|]*?)?)(?: \|.*?)? -->", markdown, re.MULTILINE
    )
    return [*pictures, *comments, *["figure"] * markdown.count("<figure ")]
