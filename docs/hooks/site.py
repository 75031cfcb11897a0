"""MkDocs hook: what the pages take from the code when the site is built.

In a page, an HTML comment stands for what is put in its place:

    <!-- blocks -->                    the zoo, from the block registry
    <!-- timm -->                      the layers of timm that are blocks too
    <!-- policies -->                  the policies, from the policy registry
    <!-- filters -->                   the options that every policy has
    <!-- changelog -->                 CHANGELOG.md
    <!-- file: PATH -->                a file of the repository
    <!-- rooms -->                     the README of every room of the package
    <!-- drawing: NAME | ALT TEXT -->  docs/assets/NAME.svg, inline, so that it follows the palette
    <!-- command: attnzoo … -->        the command and what it prints
"""

from __future__ import annotations

import inspect
import io
import os
import re
import shlex
from collections.abc import Callable
from contextlib import chdir, redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_type_hints
from unittest import mock

import torch
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnzoo.cli.app import main
from attnzoo.cli.catalogue import describe
from attnzoo.policies.selection import FILTERS
from attnzoo.registry import BLOCKS, POLICIES, BlockSpec

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "docs" / "assets"
DIRECTIVE = re.compile(
    r"^<!-- (blocks|timm|policies|filters|changelog|rooms|file|drawing|command)(?:: (.+?))? -->$",
    re.MULTILINE,
)
CHANNELS, SIZE = 256, 56
# In the order of what a model goes through, then of what is done with it.
ROOMS = (
    *("tracing", "structure", "policies", "surgery", "hosts", "registry", "blocks", "kernels"),
    *("checkpoint", "backbones", "train", "trained"),
    *("study", "study/definition", "study/runs", "study/numbers", "study/report"),
    *("sweep", "cli", "testing"),
)
KINDS = {
    "channel": "Channel attention",
    "spatial": "Spatial attention",
    "both": "Channel and spatial attention",
    "context": "Context and self-attention",
    "control": "Controls",
}


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the directives of one page."""
    generators: dict[str, Callable[[str], str]] = {
        "blocks": lambda _: blocks(),
        "timm": lambda _: timm_layers(),
        "policies": lambda _: policies(),
        "filters": lambda _: filters(),
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
    return output


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Rebuild when the code that fills the pages changes (`mkdocs serve`)."""
    config.watch.extend([str(ROOT / "attnzoo"), str(ROOT / "CHANGELOG.md")])
    return config


def blocks() -> str:
    """A table of all blocks, then a section for each."""
    kinds = [kind for kind in KINDS if any(spec.kind == kind for spec in BLOCKS)]
    specs = [spec for kind in kinds for spec in BLOCKS if spec.kind == kind]
    lines = ["| block | attends over | year | parameters | MACs |", "|---|---|---:|---:|---:|"]
    for spec in specs:
        parameters, macs = block_cost(spec.name)
        lines.append(
            f"| [`{spec.name}`](#{anchor(spec.name)}) | {spec.kind} | {spec.year or '–'} "
            f"| {parameters:,} | {macs:,} |"
        )
    for kind in kinds:
        lines += ["", f"## {KINDS[kind]}"]
        for spec in BLOCKS:
            if spec.kind == kind:
                lines += ["", block_section(spec)]
    return "\n".join(lines)


def timm_layers() -> str:
    """A table of the layers that come from timm, with what each does not keep."""
    lines = ["| block | layer | attends over | limits |", "|---|---|---|---|"]
    for name in BLOCKS.names("timm:*"):
        spec = BLOCKS[name]
        limits = (f"*{what}*: {why}" for what, why in spec.limits.items() if what != "maps")
        layer = spec.title.partition(" ")[0]
        lines.append(f"| `{name}` | `{layer}` | {spec.kind} | {' '.join(limits) or '–'} |")
    return "\n".join(lines)


def block_section(spec: BlockSpec) -> str:
    """Title, source, formula and options of one block."""
    parameters, macs = block_cost(spec.name)
    source = spec.paper
    if spec.year and str(spec.year) not in source:
        source += f", {spec.year}"
    if spec.arxiv:
        source += f". [arXiv:{spec.arxiv}](https://arxiv.org/abs/{spec.arxiv})"
    facts = [f"**{spec.title or spec.name}.** {spec.summary}"]
    if source:
        facts.append(f"*{source}*")
    facts.append(
        f"At C = {CHANNELS}, {SIZE}×{SIZE}: {parameters:,} parameters, {macs:,} MACs."
        + (" Returns its input unchanged when freshly built." if spec.identity_at_init else "")
    )
    if spec.maps:
        listed = ", ".join(f"`{path}` ({kind})" for path, kind in spec.maps.items())
        facts.append(f"Attention maps: {listed}.")
    facts += [f"**Limit ({what}).** {why}" for what, why in spec.limits.items()]
    facts += [formula(spec), options(spec)]
    return "\n\n".join([f"### `{spec.name}` {{ #{anchor(spec.name)} }}", *facts])


def formula(spec: BlockSpec) -> str:
    """What the docstring says between its first line and its arguments."""
    block = spec.factory
    if not inspect.isclass(block):
        returned = get_type_hints(block).get("return")
        block = returned if inspect.isclass(returned) and returned is not nn.Module else block
    body = inspect.cleandoc(block.__doc__ or "").partition("\n\n")[2]
    body = re.split(r"^(?:Args|Raises|Example|Attributes):$", body, flags=re.MULTILINE)[0]
    # Two spaces at the end of a line keep `Parameters: …` and `MACs: …` on lines of their own.
    ends = re.compile(r"^((?:Parameters|MACs): .*?\.)$", flags=re.MULTILINE | re.DOTALL)
    return ends.sub(r"\1  ", body.strip("\n"))


def policies() -> str:
    """A table of all policies, then a section for each."""
    lines = ["| policy | where | from |", "|---|---|---|"]
    lines += [
        f"| [`{spec.name}`](#{anchor(spec.name)}) | {spec.summary} | {spec.source or '–'} |"
        for spec in POLICIES
    ]
    for spec in POLICIES:
        body = inspect.cleandoc(spec.find.__doc__ or "").partition("\n")[2].partition("\nArgs:")[0]
        lines += ["", f"## `{spec.name}` {{ #{anchor(spec.name)} }}", "", spec.summary]
        explained = describe(spec.find)[1]
        lines += ["", body.strip(), "", options(spec), ""]
        lines += [f"- `{name}`: {explained[name]}" for name in spec.options if name in explained]
    return "\n".join(lines)


def filters() -> str:
    """A table of the options that every policy has."""
    rows = [f"| `{name}` | {meaning} |" for name, meaning in FILTERS.items()]
    return "\n".join(["| filter | keeps |", "|---|---|", *rows])


def options(spec: object) -> str:
    """The options of a block or policy with their defaults, as a line."""
    defaults = spec.options
    listed = (
        f"`{name}`" if value is inspect.Parameter.empty else f"`{name}={value!r}`"
        for name, value in defaults.items()
    )
    return f"Options: {', '.join(listed)}." if defaults else "No options."


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
    language = {".yaml": "yaml", ".py": "python"}[target.suffix]
    return f'```{language} title="{path}"\n{target.read_text("utf-8").rstrip()}\n```'


def drawing(argument: str) -> str:
    """An SVG as part of the page: `NAME | ALT TEXT`."""
    name, _, alt = (part.strip() for part in argument.partition("|"))
    svg = (ASSETS / f"{name}.svg").read_text("utf-8")
    # A blank line would end the block of HTML in the middle of the drawing.
    svg = "\n".join(line for line in svg.splitlines() if line.strip())
    attributes = f'class="drawing" data-search-exclude role="img" aria-label="{alt}"'
    return f"<figure {attributes}>\n{svg}\n</figure>"


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


@cache
def block_cost(name: str) -> tuple[int, int]:
    """Parameters and MACs of a block at its default options."""
    block = BLOCKS[name].build(CHANNELS).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        block(torch.randn(1, CHANNELS, SIZE, SIZE))
    parameters = sum(parameter.numel() for parameter in block.parameters())
    return parameters, counter.get_total_flops() // 2


def anchor(name: str) -> str:
    """A name as the target of a link."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
