"""MkDocs hook: what programs read of the site, `llms.txt` and `CITATION.cff`.

The first names the English pages and what each is about; https://llmstxt.org has the format.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page
from shared import ROOT, language

ABOUT: dict[str, str] = {}


def on_page_content(html: str, page: Page, **_: object) -> None:
    """Keep the first paragraph of a page, where it does not say itself what it is about."""
    found = re.search(r"<p>(.*?)</p>", html, flags=re.DOTALL)
    first = " ".join(re.sub(r"<[^>]+>", "", found[1]).split()) if found else ""
    ABOUT[page.url] = str(page.meta.get("description", "")).strip() or first


def on_page_context(context: object, page: Page, config: MkDocsConfig, nav: Navigation) -> None:
    """Write the files when the home page of the English site is about to be written."""
    if not page.is_homepage or language(page.file.src_uri) != "en" or "zh/" in page.url:
        return
    lines = [f"# {config.site_name}", f"> {config.site_description}"]
    for item in nav.items:
        if isinstance(item, Section):
            lines.append(f"## {item.title}\n\n" + "\n".join(_entry(p) for p in _pages(item)))
    site = Path(config.site_dir)
    site.mkdir(parents=True, exist_ok=True)
    (site / "llms.txt").write_text("\n\n".join(lines) + "\n", "utf-8")
    shutil.copy(ROOT / "CITATION.cff", site)


def _pages(section: Section) -> list[Page]:
    found: list[Page] = []
    for item in section.children:
        found += _pages(item) if isinstance(item, Section) else [item]
    return [page for page in found if isinstance(page, Page)]


def _entry(page: Page) -> str:
    about = ABOUT.get(page.url, "")
    return f"- [{page.title}]({page.url})" + (f": {about}" if about else "")
