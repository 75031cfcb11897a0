"""Look at the built site in Chromium, as its readers do.

    make site-check                  # builds the site and checks it
    python benchmarks/check_site.py [--shots FOLDER] [PAGE …]

Pages in English and Chinese, 390 and 1280 pixels wide, light and dark: nothing on the console, no
request that leaves this machine, nothing wider than the screen, no formula that KaTeX does not
take, no serious finding of axe-core; every block's page once; the table of blocks, used by
keyboard; and the search in both languages, with a server and from the folder.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import importlib.util
import itertools
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[1]
SITE = ROOT / "site"
PAGES = (
    "index",
    "start",
    "guides/pretrained",
    "zoo/cbam",
    "zoo",
    "policies/pre-pool",
    "studies/starts",
)
QUERIES = {"index.html": "reduction", "zh/index.html": "缩减"}
WIDTHS, SCHEMES = (390, 1280), ("light", "dark")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
GRAVE = ("serious", "critical")
LOOK = """() => ({
    over: document.scrollingElement.scrollWidth - innerWidth,
    formulas: document.querySelectorAll(".katex-error").length,
    raw: document.querySelectorAll(".arithmatex:not(:has(.katex))").length,
    unnamed: [...document.images].filter(image => !image.alt).length,
})"""
AXE = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations.map(
    ({id, impact, nodes}) => ({id, impact, where: nodes.slice(0, 3).map(n => n.target.join(" "))}))
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder on this machine."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def watched(browser: Browser, address: str, width: int, scheme: str) -> tuple[Page, list[str]]:
    """A page, and what goes wrong on it from now on."""
    wrong: list[str] = []
    page = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    ).new_page()
    page.on("console", lambda told: wrong.append(f"console: {told.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))

    def asked(url: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            wrong.append(f"request: {url}")

    page.on("request", lambda request: asked(request.url))
    page.on(
        "response",
        lambda answer: wrong.append(f"{answer.status}: {answer.url}") if not answer.ok else None,
    )
    return page, wrong


def looked_at(page: Page, wrong: list[str], axe: str) -> list[str]:
    """What is wrong with the page that is open."""
    page.wait_for_load_state("load")
    page.wait_for_timeout(150)
    seen = page.evaluate(LOOK)
    wrong += [f"{name}: {value}" for name, value in seen.items() if value > 0]
    if axe:
        page.evaluate(axe)
        wrong += [
            f"axe: {found['id']} ({found['impact']}): {'; '.join(found['where'])}"
            for found in page.evaluate(AXE)
            if found["impact"] in GRAVE
        ]
    return wrong


def searched(browser: Browser, address: str) -> dict[str, list[str]]:
    """What is wrong with the search, by query."""
    found = {}
    for place, query in QUERIES.items():
        page, wrong = watched(browser, address, WIDTHS[-1], "light")
        page.goto(f"{address}{place}?q={quote(query)}")
        try:
            page.wait_for_selector(".md-search-result__item", timeout=20_000)
            hits = page.locator(".md-search-result__item").all_inner_texts()
            if not any(query in hit for hit in hits):
                wrong.append(f"no hit shows {query!r}")
            print(f"search {query}: {len(hits)} pages")
        except Exception as error:
            wrong.append(f"nothing found: {error}")
        found[query] = wrong
        page.context.close()
    return found


def explored(browser: Browser, address: str) -> Iterator[tuple[str, list[str]]]:
    """What is wrong with the table of blocks, used by keyboard alone."""
    for place in ("zoo.html", "zh/zoo.html"):
        page, wrong = watched(browser, address, WIDTHS[-1], "light")
        page.goto(address + place)
        shown = page.locator(".explorer tbody tr:visible")
        all_of_them = shown.count()
        page.locator(".explorer input").focus()
        page.keyboard.type("context")
        if not 0 < shown.count() < all_of_them:
            wrong.append(f"the filter shows {shown.count()} of {all_of_them}")
        page.keyboard.press("Control+a")
        page.keyboard.press("Delete")
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")  # the first value of the first list
        if not 0 < shown.count() < all_of_them:
            wrong.append(f"the list shows {shown.count()} of {all_of_them}")
        page.keyboard.press("ArrowUp")
        head = page.locator(".explorer th").nth(6)
        head.locator("button").focus()
        for order in ("ascending", "descending"):
            page.keyboard.press("Enter")
            if head.get_attribute("aria-sort") != order:
                wrong.append(f"not sorted, {order}")
            cells = page.locator(".explorer tbody td:nth-child(7)").all_inner_texts()
            numbers = [int(cell.replace(",", "")) for cell in cells]
            if numbers != sorted(numbers, reverse=order == "descending"):
                wrong.append(f"sorted wrongly: {numbers}")
        yield f"{place} by keyboard", wrong
        page.context.close()


def all_views(
    browser: Browser, address: str, asked: argparse.Namespace, axe: str
) -> Iterator[tuple[str, list[str]]]:
    """Every view, and what is wrong with it."""
    for name in asked.pages:
        for place in (f"{name}.html", f"zh/{name}.html"):
            if not (asked.site / place).exists():
                yield place, ["there is no such page"]
                continue
            for width, scheme in itertools.product(WIDTHS, SCHEMES):
                page, wrong = watched(browser, address, width, scheme)
                page.goto(address + place)
                yield f"{place} {width} {scheme}", looked_at(page, wrong, axe)
                if asked.shots:
                    title = f"{place[:-5].replace('/', '-')}-{width}-{scheme}.png"
                    page.screenshot(path=asked.shots / title)
                page.context.close()
    for path in sorted([*asked.site.glob("zoo/*.html"), *asked.site.glob("zh/zoo/*.html")]):
        place = path.relative_to(asked.site).as_posix()
        page, wrong = watched(browser, address, WIDTHS[0], "light")
        page.goto(address + place)
        yield place, looked_at(page, wrong, "")
        page.context.close()
    yield from explored(browser, address)
    yield from searched(browser, address).items()
    from_folder = searched(browser, f"{asked.site.resolve().as_uri()}/")
    yield from ((f"{query}, without a server", wrong) for query, wrong in from_folder.items())


def main() -> int:
    """Print what is wrong, and return how much of it there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("pages", nargs="*", default=PAGES, metavar="PAGE")
    parser.add_argument("--site", type=Path, default=SITE)
    parser.add_argument("--shots", type=Path, help="a folder for pictures of the pages")
    asked = parser.parse_args()
    chromium = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if chromium is None:
        print("No Chromium on this machine; on Debian, `apt-get install chromium` brings it.")
        return 1
    package = importlib.util.find_spec("axe_playwright_python")
    axe = ""
    if package and package.submodule_search_locations:
        axe = (Path(package.submodule_search_locations[0]) / "axe.min.js").read_text("utf-8")
    else:
        print("axe-core is not looked for: `pip install axe-playwright-python` brings it.")
    views = faults = 0
    with sync_playwright() as started, served(asked.site) as address:
        browser = started.chromium.launch(executable_path=chromium, args=FLAGS)
        for view, wrong in all_views(browser, address, asked, axe):
            views += 1
            faults += len(wrong)
            for fault in wrong:
                print(f"{view}: {fault}", flush=True)
        browser.close()
    print(f"{views} views, {faults} faults")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
