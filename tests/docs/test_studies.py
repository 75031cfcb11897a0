"""The published studies: complete, in agreement with their runs, without weights or paths."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from places import ROOT

from attnzoo.study import load_study, read_folder
from attnzoo.study.numbers import study_summaries
from attnzoo.study.report.table import comparisons, comparisons_csv, results_csv

pytestmark = pytest.mark.no_cover

STUDIES = ROOT / "docs" / "data" / "studies"
PUBLISHED = sorted(path.parent for path in STUDIES.glob("*/results.csv"))
sys.path.insert(0, str(ROOT / "docs" / "hooks"))


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch):
    """The docs' hook, and a study of three runs that it can read."""
    import published

    return published


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: path.name)
def test_the_tables_are_those_of_the_runs(folder: Path) -> None:
    study, records = read_folder(folder)
    assert not [record.folder for record in records if record.damaged]
    assert len(study.seeds) >= 5
    assert results_csv(records) == (folder / "results.csv").read_text()
    rows = study_summaries(study, records)
    told = list(csv.DictReader(io.StringIO((folder / "comparisons.csv").read_text())))
    mine = list(csv.DictReader(io.StringIO(comparisons_csv(rows))))
    # Another CPU rounds the noncentral t otherwise, by 1e-15.
    assert list(map(_numbers, mine)) == [pytest.approx(_numbers(row), rel=1e-9) for row in told]
    assert list(map(_words, mine)) == list(map(_words, told))
    assert len(comparisons(rows)) == len(told)
    blocks = {variant.block for variant in study.variants if variant.policy}
    assert blocks & {"affine", "conv"}, "a study without a control"


def _numbers(row: dict[str, str]) -> dict[str, float]:
    return {key: float(cell) for key, cell in row.items() if _is_number(cell)}


def _words(row: dict[str, str]) -> dict[str, str]:
    return {key: cell for key, cell in row.items() if not _is_number(cell)}


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", cell))


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: path.name)
def test_the_runs_are_those_of_the_study_file(folder: Path) -> None:
    asked, done = load_study(folder / "study.yaml"), read_folder(folder)[0]
    assert asked.seeds == done.seeds
    assert [v.title for v in asked.variants] == [v.title for v in done.variants]
    assert [b.name for b in asked.backbones] == [b.name for b in done.backbones]


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: path.name)
def test_nothing_of_a_machine_and_no_weights(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert path.suffix not in {".safetensors", ".pt", ".pth"}
        if path.suffix in {".json", ".csv", ".md", ".yaml", ".txt"}:
            assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users)/", path.read_text()), path


def test_the_hook_quotes_a_study(hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    monkeypatch.setattr(hook, "STUDIES", tmp_path)
    hook.read.cache_clear()
    (folder / "study.yaml").write_text(yaml.safe_dump({"question": "?"}))
    (folder / "results.csv").write_text(
        "backbone,variant,seed,top1,seconds,device\n"
        "net,plain,0,0.5,1800,cpu\nnet,plain,1,0.6,1800,cpu\nnet,se,0,0.7,1800,cpu\n"
        "net,se,1,0.8,1800,cpu\n"
    )
    (folder / "comparisons.csv").write_text(
        "backbone,variant,baseline,mean,low,high,verdict\nnet,se,plain,0.2,-0.011,0.411,better\n"
    )
    (folder / "report.md").write_text("# small\n\n## Results\n\n| a |\n| --- |\n| 1 |\n\nMore.\n")
    (folder / "changes.csv").write_text(
        "backbone,variant,seed,when,relative,deviation\n"
        "net,se,0,before,0,0\nnet,se,0,after,0.25,0.125\nnet,se,1,after,0.35,0.125\n"
    )
    (folder / "deletion.csv").write_text(
        "backbone,variant,seed,kind,order,share,top1\n"
        + "".join(
            f"net,se,{seed},{kind},{order},{share},{top1}\n"
            for kind in ("deletion", "insertion")
            for seed, order, top1 in ((0, "attention", 0.4), (0, "random", 0.6),
                                      (1, "attention", 0.5), (1, "random", 0.6))
            for share in (0.1, 0.3)
        )
    )  # fmt: skip
    (folder / "looks.csv").write_text(
        "backbone,variant,seed,when,inside,area\n"
        "net,se,0,before,0.5,0.5\nnet,se,1,before,0.5,0.5\n"
        "net,se,0,after,0.6,0.5\nnet,se,0,after,0.8,0.5\nnet,se,1,after,0.65,0.5\n"
    )
    said = hook.on_page_markdown(
        "Inside <!--= small | net | se | inside -->, before <!--= small | net | se | untrained -->."
        "\n\n<!-- study: small | deletion -->\n\n"
        "Seed 1: <!--= small | net | se | seed1 -->. "
        "It was <!--= small | net | se | top1 -->, "
        "<!--= small | net | se | difference -->: <!--= small | net | se | verdict -->.\n\n"
        "<!-- study: small | results -->\n\n<!-- study: small | changes -->\n\n"
        "<!-- study: small | size -->\n\n<!-- studies -->\n"
    )
    assert "Seed 1: 80.0. " in said
    assert "It was 75.0 ± 7.1, +20.0 [−1.1, +41.1]: better." in said
    assert "| a |\n| --- |\n| 1 |" in said
    assert "| net | se | 30.0 ± 7.1 | 12.5 ± 0.0 |" in said
    # means of the seeds 1.4 and 1.3, t(0.975, 1) = 12.706
    assert "Inside 1.35 [0.71, 1.99], before 1.00 [1.00, 1.00]." in said
    row = "45.0 ± 7.1 | 60.0 ± 0.0 | −15.0 [−78.5, +48.5]"
    assert f"| net | se | {row} | {row} |" in said
    sentence = (
        "4 runs: 1 backbone, 2 combinations of network and variant, 2 seeds; 2.0 hours in all"
    )
    assert sentence in said
    assert hook.size("small", "zh").startswith("共 4 次运行：1 个主干网络")
    assert "| small | 1 | 2 | 2 | 4 |" in said
    for wrong in ("<!-- study: none | results -->", "<!-- study: small | nothing -->"):
        with pytest.raises(hook.PluginError):
            hook.on_page_markdown(wrong)
    with pytest.raises(hook.PluginError, match="has no 'top1'"):
        hook.on_page_markdown("<!--= small | net | eca | top1 -->")
    hook.read.cache_clear()


def test_environments_say_where_runs_ran() -> None:
    for folder in PUBLISHED:
        for path in folder.glob("runs/*/environment.json"):
            assert json.loads(path.read_text())
