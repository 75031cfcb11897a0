"""Many backbones on one page, from made-up results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies import STUDY, made_up

from attnzoo.study import read_folder, write_report
from attnzoo.study.numbers import improvement, study_summaries
from attnzoo.study.report.across import Across, across, across_sheet
from attnzoo.train import RunSpec

NETS = [f"torchvision/{name}" for name in ("resnet18", "resnet34", "vgg11", "vgg13", "alexnet")]
CONTENT: dict[str, Any] = {
    **STUDY,
    "name": "many",
    "seeds": [0, 1, 2],
    "variants": [{"policy": "auto", "block": block} for block in ("se", "eca", "cbam")],
}
EFFECTS = {"se": 0.05, "eca": 0.02, "cbam": -0.03}


def top1(run: RunSpec) -> float:
    noise = 0.004 * np.random.default_rng([run.train.seed, len(run.backbone)]).normal()
    own = 0.002 * np.random.default_rng([run.train.seed, len(run.id)]).normal()
    return 0.6 + noise + own + (EFFECTS[run.variant.block] if run.variant.policy else 0)


def study(folder: Path, backbones: list[str], **changes: Any) -> Path:
    made_up(folder, {**CONTENT, "backbones": backbones, **changes}, top1)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five backbones, with their report. Tests only read it."""
    folder = study(tmp_path_factory.mktemp("many"), NETS)
    write_report(folder)
    return folder


def found(folder: Path) -> Across | None:
    asked, records = read_folder(folder)
    return across(study_summaries(asked, records), records)


def test_variants_are_ranked_over_backbones(many: Path) -> None:
    told = found(many)
    assert list(told.ranks.mean) == ["auto + se", "auto + eca", "plain", "auto + cbam"]
    assert list(told.ranks.mean.values()) == [1, 2, 3, 4]
    assert told.ranks.backbones == 5
    assert set(told.ranks.p_plain) == {"auto + se", "auto + eca", "auto + cbam"}
    (group,) = across_sheet(told).groups
    assert [row[0] for row in group[1]] == list(told.ranks.mean)
    assert group[1][2] == ("plain", "3.00", "", "")


def test_improvement_is_over_runs_of_both(many: Path) -> None:
    _, records = read_folder(many)

    def values(variant: str) -> list[list[float]]:
        return [
            [
                r.result.top1
                for r in records
                if (r.result.backbone, r.result.variant) == (net, variant)
            ]
            for net in NETS
        ]

    chance, low, high = found(many).improvement["auto + eca"]
    assert chance == improvement(values("auto + eca"), values("plain"))
    assert low <= chance <= high
    points = np.array(found(many).points["auto + eca"])
    assert points == pytest.approx(100 * np.subtract(values("auto + eca"), values("plain")))


def test_the_page_and_markdown_have_it(many: Path) -> None:
    page, text = (many / "report.html").read_text(), (many / "report.md").read_text()
    for part in ("Across backbones", "Friedman", "Nemenyi", "above plain"):
        assert part in page
        assert part in text
    for name in ("ranks", "profiles-1"):
        assert f'aria-label="{name}"' in page
        assert f"]({'figures'}/{name}.svg)" in text
    assert len(re.findall("FillBetween", (many / "figures/profiles-1.svg").read_text())) >= 3


def test_few_backbones_or_variants_have_none(tmp_path: Path) -> None:
    assert found(study(tmp_path / "four", NETS[:4])) is None
    assert found(study(tmp_path / "two", NETS, variants=CONTENT["variants"][:1])) is None
    assert "Across backbones" not in write_report(tmp_path / "four").read_text()


def test_what_one_backbone_lacks_is_not_ranked(tmp_path: Path) -> None:
    exclude = [{"backbone": NETS[0], "block": "cbam"}]
    told = found(study(tmp_path, NETS, exclude=exclude))
    assert "auto + cbam" not in told.ranks.mean
    assert len(told.ranks.mean) == 3
