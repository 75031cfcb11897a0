"""`report.md`: the report in plain text, to be pasted into an issue or kept beside a paper."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from attnzoo.study.report.overlays import MapGroup, MapRow
from attnzoo.study.report.provenance import Provenance

__all__ = ["comparison_markdown", "report_markdown"]

TAG = re.compile(r"<(?=[A-Za-z/!?])")


def report_markdown(content: Mapping[str, Any], figures: Mapping[str, str]) -> str:
    """The report as Markdown.

    Args:
        content: what the page shows.
        figures: name → path of what it shows as pictures.
    """
    study, words = content["study"], content["words"]
    parts = [f"# {study.name}"]
    if study.question:
        parts.append(study.question)
    parts.append(f"{len(content['records'])} of {content['planned']} runs are done.")
    parts += [f"> {_line(text)}" for text in [*content["wording"], *content["stopped"]]]
    if content["results"].groups:
        parts += ["## Results", content["results"].markdown(), words["results"]]
        sizes = [f"{name}: {size}" for name, size in content["sizes"].items()]
        parts.append(f"Images: {', '.join(sizes)}.")
    parts += _picture("effects", words["effects"], figures)
    parts += _picture("accuracy", words["accuracy"], figures)
    if content["verdicts"].groups:
        parts += ["## Verdicts", content["verdicts"].markdown(), words["verdicts"]]
        told = "\n".join(f"- **{verdict}**: {text}" for verdict, text in content["sentences"])
        parts += ["### In words", told]
    if content["images"].groups:
        parts += ["### Image by image", content["images"].markdown(), words["images"]]
    if content["across"]:
        parts += ["## Across backbones", content["across"].markdown(), *content["across_words"]]
        names = ["ranks", *(f"profiles-{i + 1}" for i, _ in enumerate(content["profiles"]))]
        parts += [_image(name, figures) for name in names]
    parts += _answers(content, figures)
    if content["costs"].groups:
        parts += ["## Cost beside accuracy", content["costs"].markdown()]
        parts += [f"{name} measured on {where}." for name, where in content["measured"].items()]
        parts += content["cost_notes"]
    if content["capacity"]:
        parts += ["### Controls of another size", _list(content["capacity"])]
    shown = [(backbone, len(plots)) for backbone, plots in content["pareto"]]
    if shown:
        parts += ["## Pareto fronts", words["pareto"]]
        for backbone, count in shown:
            names = [f"pareto-{i + 1}-{backbone}" for i in range(count)]
            parts += [f"### {backbone}", "\n".join(_image(name, figures) for name in names)]
        parts += _picture("overview", "All backbones.", figures)
        parts += ["## Learning curves", words["curves"]]
        parts += [_image(f"curves-{backbone}", figures) for backbone, _ in shown]
    if content["maps"]:
        parts += ["## Attention maps", words["maps"]]
        parts += [part for group in content["maps"] for part in _maps(group, figures)]
    if content["beginnings"]:
        parts += ["## What the networks began with", _list(content["beginnings"])]
    if "data" in figures:
        labels = ", ".join(_line(picture.label) for picture in content["data"].pictures)
        parts += ["## The data", words["data"], _image("data", figures), labels]
    parts += ["## How to run it again", *_again(content["again"])]
    parts += [words["again"], f"written {content['written']}"]
    return _joined(parts)


def _answers(content: Mapping[str, Any], figures: Mapping[str, str]) -> list[str]:
    """What the networks answered, image by image."""
    words, parts = content["words"], []
    if content["measures"].groups:
        parts += ["## Other measures", content["measures"].markdown(), words["measures"]]
    if content["classes"].groups:
        parts += ["## Classes", content["classes"].markdown(), words["classes"]]
    if content["confusion"]:
        parts += ["### Confusions", words["confusion"]]
        names = [f"confusion-{variant}-{backbone}" for backbone, variant, _ in content["confusion"]]
        parts += [_image(name, figures) for name in names]
    if content["contrasts"]:
        parts += ["### Images that set them apart", words["contrasts"]]
    for i, sheet in enumerate(content["contrasts"]):
        parts.append(
            f"{sheet.backbone}: {sheet.right} has {sheet.count} right at all seeds that "
            f"{sheet.wrong} has right at none."
        )
        told = ", ".join(f"{cell.label} ({cell.taken_for})" for cell in sheet.cells)
        parts += _picture(f"contrasts-{i + 1}-{sheet.backbone}", told, figures)
    return parts


def comparison_markdown(content: Mapping[str, Any], figures: Mapping[str, str]) -> str:
    """A comparison of studies as Markdown; the arguments are as for `report_markdown`."""
    parts = [f"# {' and '.join(content['labels'])}"]
    for entry in content["entries"]:
        if entry.study.question:
            parts.append(f"{entry.label}: {entry.study.question}")
    parts += [f"> {_line(text)}" for text in content["notes"]]
    parts.append("## What differs")
    parts.append(content["settings"].markdown() if content["settings"].groups else "No setting.")
    parts += ["## Side by side", content["results"].markdown()]
    parts += _picture("side_by_side", "What each variant adds to plain in each study.", figures)
    parts += ["## Pooled", *content["pooling_notes"]]
    if content["pooled"].groups:
        parts.append(content["pooled"].markdown())
        parts += _picture("effects", "What each variant adds, all studies together.", figures)
    if content["verdicts"].groups:
        parts += ["### Verdicts", content["verdicts"].markdown()]
    if content["apart"]:
        parts += ["### Not pooled", _list(content["apart"])]
    if content["repeated"]:
        parts += ["### One seed, two outcomes", _list(content["repeated"])]
    parts += ["## Cost beside accuracy", content["costs"].markdown(), "## How to run them again"]
    for label, again in content["again"]:
        parts += [f"### {label}", *_again(again)]
    return _joined(parts)


def _joined(parts: Sequence[str]) -> str:
    """One text; names of the user's that hold HTML are shown, not obeyed."""
    shown = (part if part.startswith("```") else TAG.sub("&lt;", part) for part in parts)
    return "\n\n".join(shown) + "\n"


def _line(text: str) -> str:
    """Without line breaks, which would end what Markdown has on a line."""
    return " ".join(text.split("\n"))


def _again(again: Provenance) -> list[str]:
    return [
        f"Save this as `{again.file}`:",
        f"```yaml\n{again.content}```",
        f"```console\n$ {again.command}\n```",
        _list([f"{name}: {value}" for name, value in again.facts]),
    ]


def _maps(group: MapGroup, figures: Mapping[str, str]) -> list[str]:
    parts = [f"### {group.backbone}", f"On a test picture of class {_line(group.label)}."]
    for i, row in enumerate(group.rows):
        parts.append(f"{_line(row.variant)}, seed {row.seed}, {row.shown} of {row.sites} sites:")
        name = f"maps-{i + 1}-{group.backbone}"
        if name in figures:
            parts.append(_image(name, figures))
        parts.append(_list(_cells(row)))
    return parts


def _cells(row: MapRow) -> list[str]:
    return [
        f"{emitter}: " + "; ".join(f"{cell.path} {cell.told}" for cell in cells)
        for emitter, cells in row.emitters.items()
    ]


def _picture(name: str, caption: str, figures: Mapping[str, str]) -> list[str]:
    return [_image(name, figures), caption] if name in figures else []


def _image(name: str, figures: Mapping[str, str]) -> str:
    return f"![{_line(name)}]({figures[name]})"


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_line(line)}" for line in lines)
