"""MkDocs hook: what the pages take from the code when the site is built.

In a page, an HTML comment stands for what is put in its place:

    <!-- policies -->                  a table of the policies, from their registry
    <!-- filters -->                   the options that every policy has
    <!-- changelog -->                 CHANGELOG.md
    <!-- file: PATH -->                a file of the repository
    <!-- rooms -->                     the README of every room of the package
    <!-- drawing: NAME | ALT TEXT -->  docs/assets/NAME.svg, inline, so that it follows the palette
    <!-- command: attnzoo … -->        the command and what it prints
"""

from __future__ import annotations

import io
import os
import re
import shlex
from collections.abc import Callable
from contextlib import chdir, redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from policy_page import translated
from shared import ASSETS, ROOT, Language, anchor, figure, language, table

from attnzoo.cli.app import main
from attnzoo.policies.selection import FILTERS
from attnzoo.registry import POLICIES

DIRECTIVE = re.compile(
    r"^<!-- (policies|filters|changelog|rooms|file|drawing|command)(?:: (.+?))? -->$",
    re.MULTILINE,
)
WORDS_OF_QUERY = re.compile(
    r"(for\(let (?P<end>\w+)=(?P<start>\w+)\+1;(?P=end))<"
    r"((?P<query>\w+)\.length;(?P=end)\+\+\)(?P=query)\.slice\((?P=start),(?P=end)\)in)"
)
# In the order of what a model goes through, then of what is done with it.
ROOMS = (
    *("tracing", "structure", "policies", "surgery", "hosts", "registry", "blocks", "kernels"),
    *("checkpoint", "backbones", "train", "trained", "deploy", "sharing"),
    *("study", "study/definition", "study/runs", "study/numbers", "study/report"),
    *("sweep", "cli", "testing"),
)


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Replace the directives of one page."""
    tongue = language(page.file.src_uri)
    generators: dict[str, Callable[[str], str]] = {
        "policies": lambda _: policies(tongue),
        "filters": lambda _: filters(tongue),
        "changelog": lambda _: changelog(),
        "rooms": lambda _: rooms(),
        "file": file,
        "drawing": drawing,
        "command": command,
    }
    return DIRECTIVE.sub(lambda match: generators[match[1]](match[2] or ""), markdown)


def on_post_page(output: str, page: Page, **_: object) -> str:
    """Refuse a page that would fetch anything from elsewhere."""
    fetched = re.findall(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="(https?:[^"]+)"', output)
    if fetched:
        raise PluginError(
            f"{page.file.src_uri} fetches {', '.join(fetched)}; keep a copy in docs/."
        )
    label = {"en": "Search", "zh": "搜索"}["zh" if page.url.startswith("zh/") else "en"]
    output = output.replace('role="dialog"', f'role="dialog" aria-label="{label}"', 1)
    # The theme would ask for a sitemap beside each of them; there is one, at the root.
    output = re.sub(r'\s*<link rel="alternate" [^>]*hreflang[^>]*>', "", output)
    return with_formulas(output, page) if 'class="arithmatex"' in output else output


def with_formulas(output: str, page: Page) -> str:
    """A page with KaTeX, a third of a megabyte that other pages need not load."""
    style, script = (
        get_relative_url(f"assets/katex/katex.min.{ending}", page.url) for ending in ("css", "js")
    )
    head = f'<link rel="stylesheet" href="{style}"><script defer src="{script}"></script></head>'
    return output.replace("</head>", head, 1)


def on_post_build(config: MkDocsConfig) -> None:
    """Let the search find Chinese words that are the whole query.

    The theme's worker looks for the words of the index in a query, but never at one that ends
    where the query ends: 缩减 was searched for as 缩, which is another word.
    """
    for worker in Path(config.site_dir).glob("assets/javascripts/workers/search.*.js"):
        source = worker.read_text("utf-8")
        worker.write_text(WORDS_OF_QUERY.sub(r"\1<=\4", source), "utf-8")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Rebuild when the code that fills the pages changes (`mkdocs serve`)."""
    config.watch.extend([str(ROOT / "attnzoo"), str(ROOT / "CHANGELOG.md")])
    return config


def policies(tongue: Language) -> str:
    """A table of all policies, with a link to the page of each."""
    heads = {"en": ("policy", "where", "from"), "zh": ("策略", "位置", "来源")}
    rows = [
        (
            f"[`{spec.name}`](policies/{anchor(spec.name)}.md)",
            translated()[spec.name]["summary"] if tongue == "zh" else spec.summary,
            spec.source or "–",
        )
        for spec in POLICIES
    ]
    return table(heads[tongue], rows)


def filters(tongue: Language) -> str:
    """A table of the options that every policy has."""
    heads = {"en": ("filter", "keeps"), "zh": ("筛选项", "保留")}
    meanings = translated()["filters"] if tongue == "zh" else FILTERS
    return table(heads[tongue], [(f"`{name}`", meanings[name]) for name in FILTERS])


def changelog() -> str:
    """CHANGELOG.md without its title, which the page has already."""
    return (ROOT / "CHANGELOG.md").read_text("utf-8").partition("\n")[2]


def rooms() -> str:
    """The README of every room, as sections."""
    package = ROOT / "attnzoo"
    found = {path.parent.relative_to(package).as_posix() for path in package.rglob("README.md")}
    if found != set(ROOMS):
        raise PluginError(f"ROOMS in {__file__} is not {sorted(found)}.")
    sections = []
    for room in ROOMS:
        title, _, body = (package / room / "README.md").read_text("utf-8").partition("\n")
        subject = title.partition(": ")[2]
        subject = subject[0].upper() + subject[1:]
        sections.append(f"### `{room}`\n\n**{subject}.**\n\n{body.strip()}")
    return "\n\n".join(sections)


def file(path: str) -> str:
    """A file of the repository as a block of code."""
    target = ROOT / path
    language = {".yaml": "yaml", ".cff": "yaml", ".py": "python"}[target.suffix]
    return f'```{language} title="{path}"\n{target.read_text("utf-8").rstrip()}\n```'


def drawing(argument: str) -> str:
    """An SVG as part of the page: `NAME | ALT TEXT`."""
    name, _, alt = (part.strip() for part in argument.partition("|"))
    return figure((ASSETS / f"{name}.svg").read_text("utf-8"), alt)


@cache
def command(line: str) -> str:
    """A command line and what it printed just now."""
    printed = io.StringIO()
    plain = {"COLUMNS": "86", "NO_COLOR": "1", "TERM": "dumb"}
    # In a folder without results, so that the page does not depend on what was run here before.
    with TemporaryDirectory() as empty, chdir(empty):
        Path("examples").symlink_to(ROOT / "examples")
        with redirect_stdout(printed), mock.patch.dict(os.environ, plain):
            code = main(shlex.split(line)[1:])
    if code:
        raise PluginError(f"{line!r} ended with exit code {code}")
    text = "\n".join(row.rstrip() for row in printed.getvalue().splitlines()).strip("\n")
    return f"```console\n$ {line}\n{text}\n```"
