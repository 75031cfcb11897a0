"""Two processes compute what one does, started by torchrun or by Lightning, and stop as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from places import ROOT, SUPPORT
from two_processes import COMMAND, STAGES, make_net, trained

import attnzoo
from attnzoo.errors import OptionError
from attnzoo.tracing.probe import probe
from attnzoo.train import TrainRecipe
from attnzoo.train.devices import _units, launch


def environment() -> dict[str, str]:
    """One thread a process, and none of what another launcher has left."""
    names = (
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "PYTEST_XDIST_WORKER",
    )
    kept = {name: value for name, value in os.environ.items() if name not in names}
    paths = [str(ROOT), str(SUPPORT), os.environ.get("PYTHONPATH", "")]
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("two")
    script = str(SUPPORT / "two_processes.py")
    options = ("--standalone", "--nproc-per-node", "2")
    output = run("torch.distributed.run", *options, script, str(folder))
    told = json.loads((folder / "out.json").read_text())
    return {**told, "folder": folder, "printed": output}


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for row, other in zip(found["rows"], expected["rows"], strict=True):
        numbers = [{k: v for k, v in r.items() if k != "seconds"} for r in (row, other)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)
    for ours, theirs in zip(found["answers"], expected["answers"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)  # of all images, in order
    assert found["weights"].keys() == expected["weights"].keys()
    for key, values in found["weights"].items():
        assert values == pytest.approx(expected["weights"][key], rel=1e-3, abs=1e-5), key


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("ddp", {}),
        ("accumulated", {}),
        ("fsdp", {}),
        ("unfrozen", STAGES),
        ("ddp, interrupted", {}),
        ("fsdp, interrupted", {}),
    ],
)
def test_two_processes_come_to_what_one_does(
    kind: str, changes: dict[str, Any], two: dict[str, Any]
) -> None:
    same(two[kind], trained(**changes))


def test_they_stop_as_one(two: dict[str, Any]) -> None:
    assert "Stopped after step" in two["ddp, interrupted"]["message"]
    assert "Stopped after step" in two["fsdp, interrupted"]["message"]


def test_what_goes_wrong_in_the_second_process_is_named(two: dict[str, Any]) -> None:
    message = two["exploded"]["message"]
    assert "at step 5 (epoch 2); first at 5 (Explodes), whose output held inf in step 5" in message


def test_the_command_line_under_torchrun(two: dict[str, Any]) -> None:
    assert two["exit code"] == 0
    result = json.loads(two["printed"][two["printed"].index("{") :])  # one result, of one process
    assert result["top1"] == pytest.approx(two["ddp"]["rows"][-1]["test_top1"])
    folder = Path(result["folder"])
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert (folder / "attention.safetensors").exists()


def test_the_command_line_starts_its_processes_itself(tmp_path: Path, two: dict[str, Any]) -> None:
    output = run("attnzoo", *COMMAND, "--devices", "2", "--out", str(tmp_path))
    result = json.loads(output)
    under_torchrun = json.loads(two["printed"][two["printed"].index("{") :])
    for key in ("top1", "test_loss", "gamma"):
        assert result[key] == pytest.approx(under_torchrun[key])


def test_large_modules_that_run_whole_are_shards_of_their_own() -> None:
    with torch.device("meta"):
        vgg, resnet = torchvision.models.vgg16(), torchvision.models.resnet50()
    called = {call.path for call in probe(vgg, (3, 64, 64)).calls}
    assert _units(vgg, called) == ["features", "classifier"]
    called = {call.path for call in probe(resnet, (3, 64, 64)).calls}
    assert _units(resnet, called - {"layer3"}) == [
        *("layer2", "layer3.0", *(f"layer3.{i}" for i in range(1, 6)), "layer4", "fc"),
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"precision": "fp16", "device": "cpu"}, "precision='fp16' needs an accelerator"),
        ({"device": "cuda"}, "device='cuda' is not available"),
    ],
)
def test_what_is_not_here(changes: dict[str, Any], says: str) -> None:
    if torch.cuda.is_available() and changes["device"] == "cuda":
        pytest.skip("there is a CUDA device here")
    with pytest.raises(OptionError, match=says):
        launch(TrainRecipe(**changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"devices": 3}, "3 processes × accumulate=1 do not divide it. Try 30 or 33"),
        ({"accumulate": 5}, "1 processes × accumulate=5 do not divide it"),
        ({"batch_size": 6, "devices": 2, "mixup": 0.2}, "a pass has 3. Make it even"),
        ({"strategy": "fsdp", "ema": 0.99}, "goes without ema and unfreeze"),
        ({"strategy": "fsdp", "precision": "fp16"}, "no loss scaling"),
        ({"unfreeze": {2: "4"}}, "needs freeze"),
        ({"freeze": "4", "unfreeze": {1: "4"}}, "name one from 2 on"),
        ({"freeze": "4", "unfreeze": {6: "4"}}, "there are 5"),
    ],
)
def test_recipes_that_cannot_be(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TrainRecipe(**changes)


def test_the_network_under_test_has_no_batch_statistics() -> None:
    model = attnzoo.wrap(make_net(), "pre-pool", "se", example=(3, 16, 16))
    assert not any("BatchNorm" in type(module).__name__ for module in model.modules())
