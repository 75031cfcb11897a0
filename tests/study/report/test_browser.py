"""Reports and comparisons in a browser, light and dark, wide and narrow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
