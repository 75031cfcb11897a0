"""What was run and with what, so that somebody else can run it again and see the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnzoo.study.definition import Study, study_yaml
from attnzoo.study.runs import Record, read_environment
from attnzoo.train import ENVIRONMENT

__all__ = ["Provenance", "provenance"]

NAMES = {"cuda": "CUDA of PyTorch", "gpus": "GPUs", "git dirty": "git, uncommitted changes"}


@dataclass(frozen=True)
class Provenance:
    """What it takes to do a study again.

    Attributes:
        file: name of the study file.
        content: what is in it.
        command: does it again.
        facts: `(what, value)`: seeds, versions, devices, the state of the code, hashes. Where runs
            differ, all values are there.
    """

    file: str
    content: str
    command: str
    facts: tuple[tuple[str, str], ...]


def provenance(study: Study, records: Sequence[Record]) -> Provenance:
    """How to run a study again."""
    content = study_yaml(study)
    file = f"{study.name}.yaml"
    results = [record.result for record in records]
    facts = [("seeds", ", ".join(map(str, study.seeds)))]
    versions = _values(result.versions for result in results)
    if versions:
        facts.append(("versions", ", ".join(f"{name} {told}" for name, told in versions.items())))
        facts.append(("ran on", "; ".join(dict.fromkeys(result.device for result in results))))
    facts += list(_values(told for r in records for told in _environments(r)).items())
    facts.append(("SHA-256 of the file", hashlib.sha256(content.encode()).hexdigest()))
    for backbone in dict.fromkeys(result.backbone for result in results):
        own = {r.seed: r.backbone_hash for r in results if r.backbone == backbone}
        told = ", ".join(f"{own[seed]} (seed {seed})" for seed in sorted(own))
        facts.append((f"first weights of {backbone}", told))
    quoted = file.replace("'", "'\\''")
    return Provenance(file, content, f"attnzoo ablate '{quoted}'", tuple(facts))


def _environments(record: Record) -> list[dict[str, str]]:
    """What the run noted of its surroundings each time that it was taken up.

    Without the versions, which results tell of themselves.
    """
    path = record.folder / ENVIRONMENT
    if ENVIRONMENT in record.damaged or not path.is_file():
        return []
    return [
        {
            NAMES.get(name, name): told
            for name, told in _flat(noted)
            if told and not name.startswith(("python", "packages"))
        }
        for noted in read_environment(path)
    ]


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name} {key}".strip())
    elif isinstance(value, list):
        yield name, " ".join(map(str, value))
    elif isinstance(value, bool):
        yield name, "yes" if value else "no"
    elif value is not None:
        yield name, str(value)


def _values(tables: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Key → its value, or all different ones."""
    found: dict[str, dict[str, None]] = {}
    for table in tables:
        for key, value in table.items():
            found.setdefault(key, {})[value] = None
    return {key: " / ".join(values) for key, values in found.items()}
