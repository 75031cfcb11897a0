"""MkDocs hook: the zoo, from the block registry.

<!-- blocks -->   a table of all blocks, which docs/assets/site.js lets one filter and sort
<!-- timm -->     the layers of timm that are blocks too
"""

from __future__ import annotations

from mkdocs.structure.pages import Page
from shared import KINDS, Language, anchor, language, table
from zoo_facts import cost, exports, reach
from zoo_words import BROAD, MAP_KINDS, word

from attnzoo.registry import BLOCKS

CHANNELS, SIDE = 256, 56


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put the tables in place of the comments."""
    tongue = language(page.file.src_uri)
    if "<!-- blocks -->" in markdown:
        markdown = markdown.replace("<!-- blocks -->", explorer(tongue))
    if "<!-- timm -->" in markdown:
        markdown = markdown.replace("<!-- timm -->", timm_layers(tongue))
    return markdown


def explorer(tongue: Language) -> str:
    """A table of all blocks; the texts that its script shows are with it."""
    keys = ("block", "kind", "year", "sees", "exports", "neutral", "parameters")
    heads = [*(word(key, tongue) for key in keys), "MMACs", word("kept", tongue)]
    rows = []
    for spec in sorted(BLOCKS, key=lambda spec: list(KINDS).index(spec.kind)):
        found = cost(spec.name, CHANNELS, SIDE)
        rows.append(
            (
                f"[`{spec.name}`](zoo/{anchor(spec.name)}.md \"{spec.title or spec.name}\")",
                MAP_KINDS[spec.kind][tongue],
                spec.year or "–",
                BROAD[reach(spec.name).space][tongue],
                word("yes" if exports(spec) else "with limits", tongue),
                word("yes" if spec.neutral else "no", tongue),
                f"{found.parameters:,}",
                f"{found.macs / 1e6:,.2f}",
                f"{found.kept:.2f}",
            )
        )  # fmt: skip
    said = {
        "filter": word("filter", tongue),
        "any": word("any", tongue),
        "shown": word("shown", tongue),
        "label": word("explorer", tongue),
        # Columns to choose a value of.
        "choose": "1,2,3,4,5",
    }
    attributes = " ".join(f'data-{key}="{value}"' for key, value in said.items())
    return (
        f'<div class="explorer" {attributes} markdown>\n\n{table(heads, rows, right=3)}\n\n</div>'
    )


def timm_layers(tongue: Language) -> str:
    """A table of the layers that come from timm, with what each does not keep."""
    rows = []
    for name in BLOCKS.names("timm:*"):
        spec = BLOCKS[name]
        limits = (f"*{what}*: {why}" for what, why in spec.limits.items() if what != "maps")
        layer = spec.title.partition(" ")[0]
        kind = MAP_KINDS[spec.kind][tongue]
        rows.append((f"`{name}`", f"`{layer}`", kind, " ".join(limits) or "–"))
    return table([word(key, tongue) for key in ("block", "layer", "kind", "limits")], rows)
