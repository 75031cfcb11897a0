"""The page of one block, in English or Chinese, from its spec, its code and docs/hooks/zoo."""

from __future__ import annotations

import re

from shared import (
    DOCS,
    KINDS,
    Language,
    anchor,
    docstring_parts,
    figure,
    table,
    written,
)
from zoo_facts import SIZES, comparisons, cost, reach, starts
from zoo_flow import described, drawn, lanes
from zoo_words import (
    CHANNELS,
    COUNTED_ZH,
    LIMITS_ZH,
    MAP_KINDS,
    SPACE,
    WIDER,
    by_hand,
    flow_words,
    option_meaning,
    word,
)

from attnzoo.cli.catalogue import describe
from attnzoo.cli.citation import bibtex
from attnzoo.registry import BlockSpec


def block_page(spec: BlockSpec, tongue: Language) -> str:
    """The whole page as Markdown."""
    hand = by_hand()[spec.name]
    formula, notes, counted = docstring_parts(spec)
    summary, notes = (
        (spec.summary, notes) if tongue == "en" else (hand.zh["summary"], hand.zh["notes"].strip())
    )
    titles = {"en": spec.title or spec.name, "zh": hand.zh.get("title") or spec.title or spec.name}
    title = titles[tongue]
    sections = {
        "formula": [tex(hand.tex), notes, collapsed(word("as text", tongue), formula)],
        "flow": [flow(spec.name, tongue)],
        "use": [usage(spec)],
        "options": [options(spec, tongue)],
        "cost": [costs(spec, tongue), formulas(counted, tongue), word("cost note", tongue)],
        "keeps": [keeps(spec, tongue)],
        "compared": [compared(spec, tongue)],
        "paper": [paper(spec, tongue)],
    }
    kind = KINDS[spec.kind][tongue]
    lines = [
        f"---\ntitle: {spec.name}\ndescription: >-\n  {title}. {summary}\n---",
        f"# {title}",
        f"`{spec.name}` · [{kind}](../zoo.md) · {spec.year or '–'}",
        f"**{summary}**",
    ]
    for key, parts in sections.items():
        # The same anchors in both languages, so that a link to a section fits either.
        lines.append(f"## {word(key, tongue)} {{ #{anchor(key)} }}")
        lines += [part for part in parts if part]
    return "\n\n".join(lines) + "\n"


def tex(text: str) -> str:
    """Formulas, aligned at their first equals sign, with the shape of each on the right."""
    rows = []
    for line in text.strip().splitlines():
        formula, _, shape = line.partition(" @ ")
        rows.append(formula.replace(" = ", " &= ", 1) + (f" &&\\quad {shape}" if shape else ""))
    body = " \\\\[.4em]\n".join(rows)
    return f"$$\n\\begin{{aligned}}\n{body}\n\\end{{aligned}}\n$$"


def collapsed(title: str, text: str) -> str:
    """Something that is shown when it is asked for."""
    body = "\n".join(f"    {line}".rstrip() for line in text.splitlines())
    return f'??? note "{title}"\n\n    ```text\n{body}\n    ```'


def flow(name: str, tongue: Language) -> str:
    """The drawing of a block's data flow."""
    found = lanes(by_hand()[name].flow)
    legend = (word("learned", tongue), word("fixed", tongue))
    svg = drawn(found, lambda step: flow_words(step, tongue), legend)
    said = flow_words(described(found), tongue)
    return figure(svg, word("flow of", tongue).format(name, said))


def formulas(counted: str, tongue: Language) -> str:
    """Parameters and MACs as formulas."""
    if tongue == "zh":
        for english, chinese in COUNTED_ZH.items():
            counted = re.sub(english, chinese, counted, flags=re.MULTILINE)
    return counted


def usage(spec: BlockSpec) -> str:
    """How it is put into a network, and what it does to a map."""
    first = next(iter(spec.options.items()), None)
    given = f", {first[0]}={written(first[1])}" if first else ""
    return "\n".join(
        [
            "```python",
            "import attnzoo, torch, torchvision",
            "",
            "model = torchvision.models.resnet18()",
            f'attnzoo.wrap(model, "auto", "{spec.name}"{given})',
            "",
            f'block = attnzoo.create_block("{spec.name}", 64{given})',
            "assert block(torch.randn(2, 64, 14, 14)).shape == (2, 64, 14, 14)",
            "```",
        ]
    )


def options(spec: BlockSpec, tongue: Language) -> str:
    """A table of its options."""
    explained = describe(spec.factory)[1]
    if not spec.options:
        return word("no options", tongue)
    rows = [
        (f"`{name}`", f"`{written(default)}`", option_meaning(explained.get(name, ""), tongue))
        for name, default in spec.options.items()
    ]
    return table([word(key, tongue) for key in ("option", "default", "meaning")], rows)


def costs(spec: BlockSpec, tongue: Language) -> str:
    """A table of what it costs on maps of several sizes."""
    heads = [word("map", tongue), word("parameters", tongue), "MACs", word("kept", tongue)]
    rows = []
    for channels, side in SIZES:
        found = cost(spec.name, channels, side)
        counted = (f"{found.parameters:,}", f"{found.macs:,}", f"{found.kept:.2f}")
        rows.append((f"{channels}×{side}×{side}", *counted))
    return table(heads, rows, right=3)


def sees(spec: BlockSpec, tongue: Language) -> str:
    """What one value of its output depends on."""
    found = reach(spec.name)
    space = SPACE[found.space][tongue].format(found.width)
    if found.space == "lines" and found.width > 1:
        space += WIDER[tongue].format(found.width)
    channels = CHANNELS[found.channels][tongue].format(found.many)
    return f"{space}, {channels}" if tongue == "en" else f"{space}，{channels}"


def keeps(spec: BlockSpec, tongue: Language) -> str:
    """Reach, starts, attention maps and limits, as a table."""
    shown = [f"`{path}` ({MAP_KINDS[kind][tongue]})" for path, kind in spec.maps.items()]
    rows = [
        (word("sees", tongue), sees(spec, tongue)),
        (word("starts", tongue), ", ".join(f"`{start}`" for start in starts(spec))),
        (word("identity", tongue), word("yes" if spec.identity_at_init else "no", tongue)),
        (word("maps", tongue), ", ".join(shown) or word("no maps", tongue)),
    ]
    for what, why in spec.limits.items():
        if tongue == "zh":
            rows.append((f"{word('limit', tongue)}（{LIMITS_ZH[what]}）", limits_zh(spec)[what]))
        else:
            rows.append((f"{word('limit', tongue)} ({what})", why))
    if not spec.limits:
        rows.append((word("limit", tongue), word("no limits", tongue)))
    return table([word("property", tongue), word("value", tongue)], rows)


def limits_zh(spec: BlockSpec) -> dict[str, str]:
    """Its limits in Chinese."""
    return by_hand()[spec.name].zh.get("limits", {})


def compared(spec: BlockSpec, tongue: Language) -> str:
    """Where the studies of this site compared it."""
    found = comparisons().get(spec.name)
    if not found:
        return word("not compared", tongue).format(studies="studies.md")
    keys = ("study", "network", "variant", "against", "points", "seeds", "verdict")
    rows = [
        (
            study_link(row.study), f"`{row.backbone}`", row.variant, row.baseline,
            row.points, row.seeds, row.verdict,
        )
        for row in found
    ]  # fmt: skip
    return table([word(key, tongue) for key in keys], rows)


def study_link(name: str) -> str:
    """A study by its name, with a link to its page where it has one."""
    page = DOCS / "studies" / f"{name}.md"
    return f"[{name}](../studies/{page.name})" if page.exists() else name


def paper(spec: BlockSpec, tongue: Language) -> str:
    """The source, and how to cite it."""
    if not spec.paper:
        return word("no paper", tongue)
    source = re.sub(r"\.$", "", spec.paper)
    if spec.arxiv:
        source += f". [arXiv:{spec.arxiv}](https://arxiv.org/abs/{spec.arxiv})"
    entry = bibtex(spec)
    return f"{source}\n\n```bibtex\n{entry}\n```" if entry else source
