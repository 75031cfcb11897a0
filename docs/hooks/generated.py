"""MkDocs hook: pages that no file holds, one a block and one a policy, in both languages.

They are files to MkDocs like all others, and their text is made when MkDocs wants to read it.
In the navigation a folder, `zoo/`, stands for the pages in it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from policy_page import policy_page
from shared import CHINESE, DOCS, KINDS, LANGUAGES, Language, anchor, in_language
from zoo_page import block_page

from attnzoo.registry import BLOCKS, POLICIES

Navigation = list[Any]


@cache
def pages() -> dict[str, Callable[[Language], str]]:
    """File of the English page → what makes it in a language."""
    found: dict[str, Callable[[Language], str]] = {}
    for block in BLOCKS:
        found[f"zoo/{anchor(block.name)}.md"] = partial(block_page, block)
    for policy in POLICIES:
        found[f"policies/{anchor(policy.name)}.md"] = partial(policy_page, policy)
    return found


@cache
def text(src_uri: str, tongue: Language) -> str:
    """The text of a page."""
    return pages()[src_uri](tongue)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of a folder into the navigation in its place."""
    order = config.extra.get("order", {})
    if config.nav is not None:
        config.nav = [entry for entry in (_unfolded(item, order) for item in config.nav) if entry]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Tell MkDocs of the pages."""
    for src_uri in pages():
        for tongue in LANGUAGES:
            path = in_language(src_uri, tongue)
            place = (config.docs_dir, config.site_dir, config.use_directory_urls)
            files.append(File(path, *place))
    return files


def on_page_read_source(page: Page, config: MkDocsConfig) -> str | None:
    """The text of a page that no file holds."""
    src_uri = page.file.src_uri
    tongue: Language = "zh" if src_uri.endswith(CHINESE) else "en"
    english = src_uri.removesuffix(CHINESE) + ".md" if tongue == "zh" else src_uri
    return text(english, tongue) if english in pages() else None


def _unfolded(item: Any, order: dict[str, list[str]]) -> Any:
    """An entry of the navigation with the pages of its folder; None where there are none."""
    if not isinstance(item, dict):
        return item
    [(title, inside)] = item.items()
    if isinstance(inside, str) and inside.endswith("/"):
        inside = [inside]
    if not isinstance(inside, list):
        return item
    unfolded: Navigation = []
    for entry in inside:
        if isinstance(entry, str) and entry.endswith("/"):
            unfolded += _folder(entry.rstrip("/"), order)
        else:
            unfolded.append(_unfolded(entry, order))
    return {title: unfolded} if unfolded else None


def _folder(name: str, order: dict[str, list[str]]) -> Navigation:
    """The pages of a folder: blocks by what they attend over, files in the order that is set."""
    if name == "zoo":
        return [
            {titles["en"]: [f"zoo/{anchor(spec.name)}.md" for spec in BLOCKS if spec.kind == kind]}
            for kind, titles in KINDS.items()
            if any(spec.kind == kind for spec in BLOCKS)
        ]
    if name == "policies":
        return [f"policies/{anchor(spec.name)}.md" for spec in POLICIES]
    first = order.get(name, [])
    there = sorted(path.stem for path in (DOCS / name).glob("*.md") if "." not in path.stem)
    known = [stem for stem in first if stem in there]
    return [f"{name}/{stem}.md" for stem in [*known, *(s for s in there if s not in known)]]
