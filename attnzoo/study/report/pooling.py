"""What several studies have in common: the same images, the same settings, runs to be pooled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnzoo.errors import StudyError
from attnzoo.study.definition import Study
from attnzoo.study.numbers import Costs, Rules, Summary, read_costs, study_summaries, summarise
from attnzoo.study.runs import DataRecord, Record, read_data, read_folder

__all__ = ["Entry", "Pool", "pool", "read_studies", "setting_differences"]


@dataclass(frozen=True)
class Entry:
    """One of several studies.

    Attributes:
        label: what it is called beside the others.
        study: what was asked for.
        records: its finished runs.
        data: what it ran on.
        rows: its summaries, with verdicts of its own.
        costs: what was measured.
    """

    label: str
    study: Study
    records: list[Record]
    data: DataRecord
    rows: list[Summary]
    costs: Costs | None


@dataclass(frozen=True)
class Pool:
    """The runs of several studies that are alike but for the seed.

    Attributes:
        rows: their summaries, judged together.
        records: the runs.
        apart: why what has the same name in several studies was not pooled.
        repeated: seeds that several studies ran, with other outcomes.
    """

    rows: list[Summary]
    records: list[Record]
    apart: list[str]
    repeated: list[str]


def read_studies(folders: Sequence[str | Path]) -> list[Entry]:
    """The studies in several folders.

    Raises:
        StudyError: a folder holds no study or no finished run, is there twice, or the studies'
            accuracies are not about the same test images; the message lists every reason.
    """
    resolved = [Path(folder).resolve() for folder in folders]
    twice = {str(folder) for folder in resolved if resolved.count(folder) > 1}
    if twice:
        raise StudyError(f"the same study twice: {', '.join(sorted(twice))}. Name each once.")
    entries: list[Entry] = []
    found: list[str] = []
    labels = _labels(resolved)
    for folder, label in zip(resolved, labels, strict=True):
        study, records = read_folder(folder)
        data = read_data(folder)
        if data is None or not records:
            found.append(f"{label}: no run is finished.")
            continue
        rows = study_summaries(study, records)
        entries.append(Entry(label, study, records, data, rows, read_costs(folder)))
    for entry in entries[1:]:
        if entry.study.metric != entries[0].study.metric:
            told = f"{entry.study.metric} and {entries[0].study.metric}"
            found.append(f"{entry.label} and {entries[0].label}: verdicts are on {told}.")
        found += [
            f"{entry.label} and {entries[0].label}: {reason}"
            for reason in _other_images(entry.data, entries[0].data)
        ]
    if found:
        raise StudyError(
            "these studies cannot be compared:\n" + "\n".join(f"- {reason}" for reason in found)
        )
    return entries


def _labels(folders: Sequence[Path]) -> list[str]:
    """The folders' names, as much of their paths as it takes to tell them apart."""
    deepest = max(len(folder.parts) for folder in folders)
    for length in range(1, deepest + 1):
        labels = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(labels)) == len(labels):
            return labels
    return [str(folder) for folder in folders]


def _other_images(ours: DataRecord, theirs: DataRecord) -> list[str]:
    """Why accuracies on these test images cannot be held against one another."""
    if ours.classes != theirs.classes:
        return [f"other classes, {len(ours.classes)} and {len(theirs.classes)} of them."]
    if ours.test != theirs.test:
        return [f"other test images, {ours.test} and {theirs.test} of them."]
    sizes = [{picture.size for picture in data.pictures} for data in (ours, theirs)]
    if sizes[0] != sizes[1]:
        told = [" and ".join(map(str, sorted(size))) for size in sizes]
        return [f"test images of other sizes, {told[0]} and {told[1]} pixels a side."]
    if [picture.png for picture in ours.pictures] != [picture.png for picture in theirs.pictures]:
        return ["other test images: the first ones differ."]
    return []


def setting_differences(entries: Sequence[Entry]) -> list[tuple[str, tuple[str, ...]]]:
    """`(setting, its value in each study)` of all settings that are not the same in all."""
    told = [_settings(entry) for entry in entries]
    names = dict.fromkeys(name for settings in told for name in settings)
    lines = [(name, tuple(settings.get(name, "—") for settings in told)) for name in names]
    return [(name, values) for name, values in lines if len(set(values)) > 1]


def _settings(entry: Entry) -> dict[str, str]:
    found: dict[str, str] = {}
    for backbone in dict.fromkeys(record.spec.backbone for record in entry.records):
        spec = next(r.spec for r in entry.records if r.spec.backbone == backbone)
        content = spec.model_dump(mode="json", exclude={"variant", "backbone"})
        content["train"].pop("seed")
        content["data"].pop("root", None)  # the same images may lie elsewhere
        found |= {f"{backbone}: {name}": value for name, value in _flat(content)}
    found["seeds"] = ", ".join(map(str, entry.study.seeds))
    found["difference_points"] = f"{entry.study.difference_points:g}"
    margin = entry.study.same_within
    found["same_within"] = "not set" if margin is None else f"{margin:g}"
    found["correction"] = entry.study.correction
    results = [record.result for record in entry.records]
    found["ran on"] = "; ".join(dict.fromkeys(result.device for result in results))
    for result in results[:1]:
        found |= result.versions
    return found


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, str(value)


def pool(entries: Sequence[Entry]) -> Pool:
    """The runs of backbones and variants that several studies have, where they ran alike.

    A seed that several of them ran counts once.
    """
    groups: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for entry in entries:
        for record in entry.records:
            key = (record.result.backbone, record.result.variant)
            groups.setdefault(key, {}).setdefault(entry.label, []).append(record)
    taken: list[Record] = []
    apart: list[str] = []
    repeated: list[str] = []
    for (backbone, variant), by_study in groups.items():
        if len(by_study) < 2:
            continue
        reasons = _why_apart({label: records[0] for label, records in by_study.items()})
        if reasons:
            apart.append(f"{backbone}, {variant}: {'; '.join(reasons)}.")
            continue
        seeds: dict[int, tuple[str, Record]] = {}
        for label, records in by_study.items():
            for record in records:
                first, known = seeds.setdefault(record.result.seed, (label, record))
                if record.result.top1 != known.result.top1:
                    repeated.append(
                        f"{backbone}, {variant}, seed {record.result.seed}: "
                        f"{_percent(known)} in {first}, {_percent(record)} in {label}; "
                        f"the first is taken."
                    )
        taken += [record for _, (_, record) in sorted(seeds.items())]
    controls = {ours: theirs for e in entries for ours, theirs in e.study.controlled.items()}
    plains = {ours: theirs for e in entries for ours, theirs in e.study.baselines.items()}
    rules = Rules.of(*(entry.study for entry in entries))
    rows = summarise((record.result for record in taken), controls, rules, plains)
    return Pool(rows, taken, apart, repeated)


def _why_apart(firsts: Mapping[str, Record]) -> list[str]:
    """The settings in which runs of one name differ, with the value in each study."""
    told = {}
    for label, record in firsts.items():
        content = record.spec.model_dump(mode="json")
        content["train"].pop("seed")
        content["variant"].pop("name", None)
        content["data"].pop("root", None)
        told[label] = dict(_flat(content))
    reasons = []
    for name in dict.fromkeys(name for settings in told.values() for name in settings):
        values = {label: settings.get(name, "not set") for label, settings in told.items()}
        if len(set(values.values())) > 1:
            listed = " and ".join(f"{value} in {label}" for label, value in values.items())
            reasons.append(f"{name} is {listed}")
    return reasons


def _percent(record: Record) -> str:
    top1 = record.result.top1
    return "diverged" if top1 is None else f"{100 * top1:.2f}%"
