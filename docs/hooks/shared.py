"""What the hooks share: places, the language of a page, drawings, tables, a docstring's parts."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_type_hints

from torch import nn

from attnzoo.registry import BlockSpec

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ASSETS = DOCS / "assets"
Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
CHINESE = ".zh.md"

KINDS: dict[str, dict[Language, str]] = {
    "channel": {"en": "Channel attention", "zh": "通道注意力"},
    "spatial": {"en": "Spatial attention", "zh": "空间注意力"},
    "both": {"en": "Channel and spatial attention", "zh": "通道与空间注意力"},
    "context": {"en": "Context and self-attention", "zh": "上下文与自注意力"},
    "control": {"en": "Controls", "zh": "对照"},
}


def language(src_uri: str) -> Language:
    """The language of a page, by the name of its file."""
    return "zh" if src_uri.endswith(CHINESE) else "en"


def in_language(src_uri: str, tongue: Language) -> str:
    """The file of the page `src_uri`, an English one, in a language."""
    return src_uri.removesuffix(".md") + CHINESE if tongue == "zh" else src_uri


def anchor(name: str) -> str:
    """A name as the target of a link, or as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def figure(svg: str, alt: str) -> str:
    """An SVG as part of the page, so that it follows the palette."""
    # A blank line would end the block of HTML in the middle of the drawing.
    svg = "\n".join(line for line in svg.splitlines() if line.strip())
    alt = alt.replace('"', "&quot;")
    # What scrolls has to be reachable by the keyboard.
    attributes = f'class="drawing" data-search-exclude tabindex="0" role="img" aria-label="{alt}"'
    return f"<figure {attributes}>\n{svg}\n</figure>"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], right: int = 0) -> str:
    """A table; of its columns the last `right` ones are numbers."""
    lines = [_row(heads), f"|{'---|' * (len(heads) - right)}{'---:|' * right}"]
    return "\n".join([*lines, *map(_row, rows)])


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in cells)} |"


def written(value: Any) -> str:
    """A default as it is typed: strings in double quotes, as in all code of the site."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def docstring_parts(spec: BlockSpec) -> tuple[str, str, str]:
    """What a block's docstring says: the formula, remarks, parameters and MACs as formulas."""
    block = spec.factory
    if not inspect.isclass(block):
        returned = get_type_hints(block).get("return")
        block = returned if inspect.isclass(returned) and returned is not nn.Module else block
    body = inspect.cleandoc(block.__doc__ or "").partition("\n\n")[2]
    body = re.split(r"^(?:Args|Raises|Example|Attributes):$", body, flags=re.MULTILINE)[0]
    counted = re.compile(r"^(?:Parameters|MACs): .*?\.$", flags=re.MULTILINE | re.DOTALL)
    costs = "  \n".join(counted.findall(body))
    paragraphs = counted.sub("", body).strip("\n").split("\n\n")
    formulas = [text for text in paragraphs if text.startswith("    ")]
    remarks = [text.strip() for text in paragraphs if text.strip() and text not in formulas]
    return inspect.cleandoc("\n\n".join(formulas)), "\n\n".join(remarks), costs
