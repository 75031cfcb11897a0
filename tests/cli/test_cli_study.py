"""The commands that train: one run, a study, its report. With a network of three layers."""

from __future__ import annotations

import csv
import json
import runpy
import signal
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

import attnzoo.study
import attnzoo.train.run
from attnzoo.checkpoint import load
from attnzoo.cli import main
from attnzoo.cli import study as cli_study
from attnzoo.cli import train as cli_train
from attnzoo.errors import OptionError, StudyError
from attnzoo.train import Interrupted, TrainRecipe
from attnzoo.train.extras import MissingExtraError

MODULE = """
from torch import nn

def build(num_classes: int = 10, width: int = 8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=4), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
    )
"""
NETWORK = "networks_of_cli_study_tests:build"
DATA = {"name": "cluttered-digits", "size": 16, "train": 16, "test": 8}
QUICK = (
    *("--size", "16", "--data-option", "train=16", "--data-option", "test=8"),
    *("--epochs", "1", "--batch-size", "8"),
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder with the network's module in it, as the current one."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "networks_of_cli_study_tests.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("networks_of_cli_study_tests", None)


@pytest.fixture
def run(capsys):
    """Run the command line: `(exit code, stdout, stderr)`."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def trained(monkeypatch):
    """What `attnzoo train` asks for, without the training."""
    asked = []

    def train(spec, folder, *, watch):
        asked.append(spec)
        raise OptionError("far enough")

    monkeypatch.setattr(attnzoo.train, "train", train)
    # Neither pictures nor code are there to tell the run apart by.
    monkeypatch.setattr(attnzoo.train, "with_digests", lambda run: run)
    return asked


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


# ---- train


def test_train_leaves_a_run(run):
    code, out, err = run("train", NETWORK, "--block", "affine", "--seed", "3", *QUICK, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["variant"], told["seed"], told["sites"]) == ("auto + affine", 3, 1)
    spec = json.loads((Path(told["folder"]) / "run.json").read_text())
    assert spec["train"] == TrainRecipe(epochs=1, batch_size=8, seed=3).model_dump(mode="json")
    assert spec["data"]["train"] == 16
    assert len(load(Path(told["folder"]) / "attention.safetensors").recipes) == 1
    assert "top-1" in err

    # The same again, from the file that the run left: nothing to do.
    code, out, err = run("train", "--config", f"{told['folder']}/run.json")
    assert code == 0
    assert "done already" in err
    assert "sites       1\n" in out
    assert told["folder"] in out


def test_train_says_when_the_loss_is_no_number_any_more(run):
    options = ("--plain", "--lr", "1e30", "--optimizer", "sgd", "--warmup-epochs", "0")
    code, out, err = run("train", NETWORK, *options, *QUICK)
    assert code == 1, err
    assert "error: the training diverged: the loss was" in err
    assert "plain" in out


def test_the_recipe_has_a_flag_for_each_of_its_fields(trained, run):
    given = {
        "epochs": 7,
        "batch_size": 12,
        "optimizer": "sgd",
        "lr": 0.2,
        "momentum": 0.8,
        "weight_decay": 0.3,
        "warmup_epochs": 2.5,
        "label_smoothing": 0.2,
        "attention_lr_scale": 10.0,
        "freeze": "0",
        "precision": "fp32",
        "device": "cpu",
        "seed": 5,
        "accumulate": 3,
        "schedule": "step",
        "step_epochs": 2,
        "step_factor": 0.5,
        "clip_norm": 2.5,
        "mixup": 0.2,
        "cutmix": 0.3,
        "ema": 0.99,
        "wrapped_lr_scale": 0.5,
        "devices": 1,
        "nodes": 1,
        "strategy": "ddp",
        "class_weights": "balanced",
    }
    lists = {"unfreeze": {3: "1", 5: "all"}, "loggers": ("wandb", "mlflow")}
    assert set(given) | set(lists) == set(TrainRecipe.model_fields)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    flags += ["--unfreeze=3=1", "--unfreeze=5=all", "--loggers=wandb", "--loggers=mlflow"]
    run("train", NETWORK, *flags)
    assert trained[0].train == TrainRecipe(**given, **lists)


def test_unfreezing_needs_an_epoch_and_a_path(run):
    code, _, err = run("train", NETWORK, "--freeze", "0", "--unfreeze", "layer3")
    assert code == 2
    assert "--unfreeze layer3: write EPOCH=PATH, such as 4=layer3" in err


def test_devices_can_be_all_there_are(trained, run):
    run("train", NETWORK, "--devices", "auto")
    assert trained[0].train.devices == "auto"


def test_data_sets_of_libraries(trained, run):
    options = ("--data-option", "root=somewhere", "--data-option", "auto_augment=rand-m9")
    run("train", NETWORK, "--data", "torchvision/CIFAR10", *options)
    data = trained[0].data
    assert (data.name, data.dataset, data.root) == ("torchvision", "CIFAR10", "somewhere")
    run("train", NETWORK, "--data", "timm/torch/cifar10", *options)
    assert (trained[1].data.dataset, trained[1].data.auto_augment) == ("torch/cifar10", "rand-m9")


def test_interrupted_by_sigterm(run, monkeypatch):
    def interrupt(*_, **__):
        raise Interrupted("Stopped after step 3 of 9 in epoch 1.", signal.SIGTERM)

    monkeypatch.setattr(attnzoo.train, "train", interrupt)
    monkeypatch.setattr(attnzoo.train, "with_digests", lambda run: run)
    code, _, err = run("train", NETWORK, *QUICK)
    assert code == 143
    assert "interrupted. Stopped after step 3" in err


def test_flags_go_before_what_the_file_says(trained, run, folder):
    (folder / "photos").mkdir()
    content = {
        "backbone": NETWORK,
        "backbone_options": {"width": 4},
        "variant": {
            "name": "mine",
            "policy": "pre-pool",
            "block": "se",
            "options": {"reduction": 2},
        },
        "data": {"name": "folder", "root": "photos", "size": 64},
        "train": {"epochs": 20, "seed": 1},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(content))

    def specs(*flags: str):
        trained.clear()
        code, _, err = run("train", "--config", "run.yaml", *flags)
        assert err == "error: far enough\n", err
        assert code == 1
        return trained[0].model_dump(mode="json", exclude_unset=True)

    assert specs() == content
    # Ten epochs of warm-up are more than the recipe's usual epochs, but not than the file's.
    assert specs("--warmup-epochs", "10")["train"] == {"epochs": 20, "seed": 1, "warmup_epochs": 10}
    assert specs("--option", "reduction=4")["variant"] == {
        **{"policy": "pre-pool", "block": "se", "options": {"reduction": 4}},
    }
    assert specs("--block", "eca", "--start", "paper")["variant"] == {
        **{"policy": "pre-pool", "block": "eca", "start": "paper"},
    }
    assert specs("--policy", "stage-end", "--policy-option", "every=2")["variant"]["policy"] == [
        *("stage-end", {"every": 2}),
    ]
    assert specs("--plain")["variant"] == {}
    assert specs("--size", "32", "--data-option", "hflip=0")["data"] == {
        **{"name": "folder", "root": "photos", "size": 32, "hflip": 0},
    }
    assert specs("--data", "cluttered-digits")["data"] == {"name": "cluttered-digits"}
    assert specs("--data", "other")["data"] == {"name": "folder", "root": "other"}
    assert specs("--backbone-option", "width=8")["backbone_options"] == {"width": 8}


@pytest.mark.parametrize(
    ("content", "flags", "code", "said"),
    [
        ("[1, 2]", [], 1, "write a mapping"),
        ("train: 3", [], 1, "write a mapping"),
        ("{", [], 1, "is no YAML"),
        (None, [], 1, "cannot be read: No such file"),
        ("backbone: x:y\ntrain: {epoch: 3}", [], 1, "Did you mean 'epochs'"),
        ("backbone: x:y\nbackbones: 3", [], 1, "Did you mean 'backbone'"),
        ("backbone: x:y\nvariant: {blok: se}", [], 1, "Did you mean 'block'"),
        ("backbone: x:y", ["--data-option", "clutte=3"], 1, "Did you mean 'clutter'"),
        ("data: {name: cluttered-digits}", [], 2, "name a BACKBONE"),
        ("backbone: x:y", ["--epochs=-1"], 1, "train.epochs: should be"),
        ("backbone: x:y", ["--plain", "--block", "se"], 2, "--plain"),
        ("backbone: x:y\nvariant: {policy: auto}", ["--policy-option", "every=2"], 2, "--policy"),
        ("backbone: x:y", ["--optimizer", "adm"], 2, "adamw"),
    ],
)
def test_what_is_wrong_with_a_run_is_told(run, folder, content, flags, code, said):
    if content is not None:
        (folder / "run.yaml").write_text(content)
    done = run("train", "--config", "run.yaml", *flags)
    assert done[:2] == (code, "")
    assert said in done[2]


def test_a_missing_extra_is_named(run, monkeypatch):
    def missing(*_, **__):
        raise MissingExtraError("scikit-learn … pip install 'attnzoo[study]'")

    monkeypatch.setattr(attnzoo.train.run, "open_data", missing)
    code, _, err = run("train", NETWORK, *QUICK)
    assert code == 1
    assert "pip install 'attnzoo[study]'" in err


def test_help_of_train_explains_every_flag(run):
    _, out, _ = run("train", "--help")
    for name in TrainRecipe.model_fields:
        assert f"--{name.replace('_', '-')} " in out
    assert "By default 0.001." in out
    assert cli_train.RecipeFlags() == cli_train.NOTHING_GIVEN


# ---- ablate, report


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


def test_the_module_hands_its_exit_code_on(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["attnzoo", "nonsense"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("attnzoo", run_name="__main__")
    assert ended.value.code == 2
