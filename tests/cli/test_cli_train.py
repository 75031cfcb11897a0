"""`attnzoo train`: one run, with a network of three layers."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import yaml
from commands import NETWORK, QUICK

import attnzoo.study.runs.attempt  # takes `train` from there once, as it is when first loaded
import attnzoo.train
from attnzoo.checkpoint import load
from attnzoo.cli import train as cli_train
from attnzoo.errors import OptionError
from attnzoo.train import Interrupted, PictureOptions, TrainRecipe
from attnzoo.train.extras import MissingExtraError

pytestmark = pytest.mark.usefixtures("folder")


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
        "sampler": "balanced",
    }
    lists = {"unfreeze": {3: "1", 5: "all"}, "loggers": ("wandb", "mlflow")}
    assert set(given) | set(lists) == set(TrainRecipe.model_fields)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    flags += ["--unfreeze=3=1", "--unfreeze=5=all", "--loggers=wandb", "--loggers=mlflow"]
    run("train", NETWORK, *flags)
    assert trained[0].train == TrainRecipe(**given, **lists)


def test_strict_is_of_the_run_and_a_done_one_is_looked_at_again(trained, run, folder):
    run("train", NETWORK, "--strict")
    assert (trained[0].strict, trained[0].variant.policy) == (True, "auto")
    (folder / "run.yaml").write_text(yaml.safe_dump({"backbone": NETWORK, "strict": True}))
    run("train", "--config", "run.yaml")
    assert trained[1] == trained[0]


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


def test_a_network_that_does_not_take_the_images_is_told_by_options_of_the_data(run, folder):
    """And not by an argument of a function in Python."""
    flags = ("--plain", "--backbone-option", "in_chans=1", *QUICK)
    code, _, err = run("train", "timm/test_resnet", *flags)
    assert code == 1
    assert "example=" not in err
    assert "The data make images of 3×16×16; their option size, and for pictures channels" in err


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
    told = []
    for name, field in PictureOptions.model_fields.items():
        value = ",".join(map(str, field.default)) if name == "crop_scale" else field.default
        told.append(f"`{name}`" if value is None else f"`{name}={value}`")
    assert ", ".join(told) == cli_train.PICTURES
    assert cli_train.RecipeFlags() == cli_train.NOTHING_GIVEN
