"""`attnzoo ablate` and `attnzoo report`, with a network of three layers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml
from commands import DATA, NETWORK
from rich.console import Console

import attnzoo.study
import attnzoo.train.run
from attnzoo.cli import study as cli_study
from attnzoo.errors import StudyError

pytestmark = pytest.mark.usefixtures("folder")


def study_file(folder: Path, **changes: object) -> str:
    content = {
        "name": "tiny",
        "data": DATA,
        "train": {"epochs": 1, "batch_size": 8},
        "backbones": [NETWORK],
        "variants": ["plain", {"policy": "auto", "block": "affine"}],
        "measure": False,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path.name


def test_ablate_does_a_study_and_report_tells_of_it(run, folder):
    name = study_file(folder)
    code, out, err = run("ablate", name, "--dry-run")
    assert code == 0, err
    assert "tiny: 2 runs, 2 of them to do" in out
    assert "one after another" in out
    assert "from a training step, timed" in out
    assert not (folder / "runs").exists()

    code, out, err = run("ablate", name, "--out", "here")
    assert code == 0, err
    assert "auto + affine" in out
    assert "here/report.html" in out
    with (folder / "here" / "results.csv").open() as file:
        assert [row["variant"] for row in csv.DictReader(file)] == ["plain", "auto + affine"]

    code, out, err = run("ablate", name, "--out", "here", "--dry-run")
    assert "tiny: 2 runs, 0 of them to do" in out
    assert out.count(" 0 of 1 ") == 2
    assert "the mean of its finished runs" in out

    code, out, err = run("ablate", name, "--out", "here")
    assert (code, err) == (0, "")
    assert "All 2 runs were done already." in out

    (folder / "here" / "report.html").unlink()
    code, out, err = run("report", "here")
    assert (code, err) == (0, "")
    assert "auto + affine" in out
    assert (folder / "here" / "report.html").exists()


@pytest.mark.filterwarnings("ignore:values decide:UserWarning")
def test_what_cannot_be_followed_is_refused_where_asked_though_it_is_done(run, folder):
    name = study_file(
        folder,
        backbones=["training:choosing_net"],
        variants=[{"policy": "pre-pool", "block": "affine"}],
        controls=False,
    )
    code, _, err = run("ablate", name)
    assert code == 0, err
    for flags in (["--dry-run"], []):
        code, _, err = run("ablate", name, "--strict", *flags)
        assert code == 1
        assert "training:choosing_net, pre-pool + affine: strict=True: values decide" in err
    study_file(folder, strict="yes")
    code, _, err = run("ablate", name)
    assert code == 1
    assert "strict: must be true or false (given: 'yes')." in err


def test_report_compares_studies(run, folder):
    run("ablate", study_file(folder, seeds=[0]), "--out", "a")
    run("ablate", study_file(folder, seeds=[1]), "--out", "b")
    code, out, err = run("report", "a", "b")
    assert (code, err) == (0, "")
    assert out == "Report:  runs/a+b/report.html\n"
    assert "auto + affine" in (folder / "runs" / "a+b" / "report.md").read_text()
    code, out, err = run("report", "a", "b", "--out", "both")
    assert (folder / "both" / "report.html").exists()
    code, _, err = run("report", "a", "--out", "both")
    assert code == 2
    assert "--out is for comparisons" in err
    code, _, err = run("report", "a", "a")
    assert code == 1
    assert "the same study twice" in err


def test_the_dry_run_shows_baselines_and_controls(run, folder):
    name = study_file(folder, variants=[{"policy": "auto", "block": "se"}])
    code, out, err = run("ablate", name, "--dry-run")
    assert code == 0, err
    assert "tiny: 4 runs" in out
    for title in ("plain", "control: auto + conv like se", "control: auto + affine"):
        assert f" {title} " in out
    name = study_file(folder, variants=[{"policy": "auto", "block": "se"}], controls=False)
    assert "control:" not in run("ablate", name, "--dry-run")[1]


def test_an_interrupted_study_says_that_nothing_is_lost(run, folder, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(attnzoo.study, "run_study", interrupt)
    code, _, err = run("ablate", study_file(folder))
    assert code == 130
    assert "What is done is kept; the same command goes on from there." in err


def test_who_does_a_study_is_asked_for_by_flags(run, folder, monkeypatch):
    def noted(*_, **options):
        asked.update(options)
        raise StudyError("enough")

    asked = {}
    monkeypatch.setattr(attnzoo.study, "run_study", noted)
    flags = ("--workers", "3", "--threads", "2", "--engine", "ray", "--address", "auto")
    assert run("ablate", study_file(folder), *flags)[0] == 1
    wanted = {"workers": 3, "threads": 2, "engine": "ray", "address": "auto"}
    assert asked.items() >= wanted.items()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--workers", "0"), "workers=0 must be an integer of at least 1"),
        (("--address", "auto"), "say engine='ray' too"),
    ],
)
def test_a_wrong_way_to_do_a_study(run, folder, flags, said):
    code, out, err = run("ablate", study_file(folder), *flags)
    assert (code, out) == (1, "")
    assert said in err
    assert not (folder / "runs").exists()


def test_runs_of_several_devices_are_refused(run, folder):
    name = study_file(folder, train={"epochs": 1, "batch_size": 8, "devices": 2})
    code, _, err = run("ablate", name)
    assert code == 1
    assert "a run of a study trains on one device" in err


def test_runs_that_fail_are_told_of_and_tried_again(run, folder, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no memory left")

    name = study_file(folder)
    with monkeypatch.context() as patch:
        patch.setattr(attnzoo.train.run, "fit", broken)
        code, _, err = run("ablate", name)
    assert code == 1
    assert "2 of 2 runs failed; the same command tries them again." in err
    assert "plain, seed 0: RuntimeError: no memory left" in err
    log = next((folder / "runs" / "tiny" / "runs").glob(".*plain*/log.txt"))
    assert "Traceback" in log.read_text()
    code, _, err = run("ablate", name)
    assert code == 0, err
    assert not list((folder / "runs" / "tiny" / "runs").glob(".*"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0.25, "0.2 s"),
        (9.94, "9.9 s"),
        (42, "42 s"),
        (600, "10 min"),
        (7200, "2 h"),
        (1e6, "12 days"),
    ],
)
def test_lengths_of_time(seconds, text):
    assert cli_study._seconds(seconds) == text


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_a_wrong_study_is_refused_before_anything_is_done(run, folder, flags):
    code, out, err = run("ablate", study_file(folder, variants=[{"policy": "autp"}]), *flags)
    assert (code, out) == (1, "")
    assert "Did you mean 'auto'" in err
    code, out, err = run("ablate", study_file(folder, variants=[{"policy": "mbconv"}]), *flags)
    assert (code, out) == (1, "")
    assert "found no site" in err
    assert not list(folder.glob("runs/*/runs"))


def test_there_must_be_a_study(run, folder):
    study_file(folder)
    code, _, err = run("ablate", "studi.yaml")
    assert code == 1
    assert "Did you mean 'study.yaml'" in err
    code, _, err = run("report", ".")
    assert code == 1
    assert "study.json is missing" in err


@pytest.mark.parametrize("width", [50, 80, 100, 160])
def test_the_table_of_a_study_fits_the_terminal(width, monkeypatch, capsys, folder):
    from rich.table import Table

    table = Table("backbone", "variant", "seeds", "top-1 %", "sites", "parameters", "seconds")
    row = ("torchvision/resnet18", "auto + se", "1", "71.3", "8", "11.27 M (+0.81%)", "12")
    table.add_row(*row, end_section=True)
    table.add_row(*row)
    monkeypatch.setattr(attnzoo.study, "study_table", lambda _: table)
    monkeypatch.setattr(cli_study, "result_console", lambda: Console(width=width))
    cli_study._show_outcome(Path("here"), Path("here/report.html"))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    assert out.count("71.3") == 2  # in one line each, not folded
    assert ("seconds" in out) == (width >= 100)
    assert ("A wider terminal" in out) == (width < 100) or width == 50
