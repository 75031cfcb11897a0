"""`attnzoo evaluate`, `predict`, `maps`, `export` and `share`, typed in this process."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hub import fake_hub
from PIL import Image
from trained import Run, trained_run
from training import make_folder

import attnzoo
from attnzoo.cli import main
from attnzoo.train import open_data
from attnzoo.trained import evaluate, open_network

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Typed:
    """Type a command in a folder that holds the run and its pictures: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    Path("run").symlink_to(run.folder)
    Path("photos").symlink_to(run.data)
    capsys.readouterr()

    def typed(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return typed


def test_evaluate_shows_each_class(typed: Typed, run: Run) -> None:
    code, out, err = typed("evaluate", "run")
    assert (code, err) == (0, "")
    found = evaluate(open_network(run.folder), open_data(run.spec["data"]))
    lines = out.splitlines()
    assert lines[0] == "run"
    assert lines[1].split() == ["class", "images", "recall", "precision"]
    assert [line.split()[:2] for line in lines[2:6]] == [
        *(["cat", "6"], ["dog", "4"], ["emu", "3"], ["all", "13"]),
    ]
    assert f"top-1 {100 * found.top1:.1f}%, balanced {100 * found.balanced:.1f}%" in lines[-1]
    code, out, _ = typed("evaluate", "run/network.safetensors", "--json", "--batch-size", 3)
    assert json.loads(out) == json.loads(json.dumps(found.to_dict()), parse_float=_near)


def _near(text: str) -> object:
    return pytest.approx(float(text), rel=1e-5)


def test_evaluate_on_other_pictures_prepares_them_alike(typed: Typed, tmp_path: Path) -> None:
    make_folder(tmp_path / "more", {"cat": 1, "dog": 2, "emu": 1}, splits=("train", "val"))
    assert typed("evaluate", "run", "--data", "more")[1].splitlines()[5].split()[1] == "4"
    wanted = json.loads(typed("evaluate", "run", "--json")[1])
    alone = shutil.copy("run/network.safetensors", "alone.safetensors")
    assert json.loads(typed("evaluate", alone, "--data", "photos", "--json")[1]) == wanted
    one = typed("evaluate", "run", "--data-option", "test=3", "--json")[1]
    assert json.loads(one)["images"] == 3


def test_evaluate_says_where_the_pictures_have_changed(typed: Typed, tmp_path: Path) -> None:
    own = trained_run(tmp_path / "own")
    next((own.data / "test" / "cat").iterdir()).unlink()
    code, _, err = typed("evaluate", own.folder)
    assert code == 0
    assert "the pictures changed: 13 train, 13 test" in err
    shutil.rmtree(own.data)
    code, _, err = typed("evaluate", own.folder)
    assert code == 1
    assert "does not exist. Where they are elsewhere now, say so by --data." in err


def test_predict_prints_or_writes(typed: Typed) -> None:
    code, out, err = typed("predict", "run", "photos/test/cat", "photos/test/dog/0.png")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[2:]] == [
        *(f"photos/test/cat/{index}.png" for index in range(6)),
        "photos/test/dog/0.png",
    ]
    code, out, err = typed("predict", "run", "photos/test/cat/0.png", "--out", "new/one.csv")
    assert (code, out, err) == (0, "1 picture: new/one.csv\n", "")
    with open("new/one.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == ["picture", "label", "probability", "cat", "dog", "emu"]


def test_maps_are_written_with_a_sheet_of_all(typed: Typed) -> None:
    code, out, err = typed("maps", "run", "photos/test/cat/0.png", "photos/test/dog/0.png")
    assert (code, err) == (0, "")
    assert "All at once: maps/contact_sheet.png" in out
    names = sorted(path.name for path in Path("maps").iterdir())
    assert f"{len(names) - 1} overlays: maps" in out
    with Image.open("maps/contact_sheet.png") as sheet:
        # A picture of 10×12 pixels fills its cell.
        assert sheet.getpixel((90, 100)) != (255, 255, 255)


def test_export_says_what_it_checked(typed: Typed) -> None:
    code, out, err = typed("export", "run", "--format", "torchscript", "--out", "net/mine.pt")
    assert (code, err) == (0, "")
    assert out.startswith(
        "torchscript: net/mine.pt\nFree: batch and size. Beside the model on 1×3×"
    )
    assert torch.jit.load("net/mine.pt")(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["evaluate", "nowhere"], 1, "there is no file nowhere"),
        (["evaluate", "photos"], 1, "photos holds no network.safetensors"),
        (["evaluate", "."], 1, ". is no run's folder, but holds some. Name one: run."),
        (["evaluate", "run/attention.safetensors"], 1, "does not hold the whole network"),
        (["evaluate", "alone.safetensors"], 1, "name a folder of images by --data"),
        (["evaluate", "run", "--data", "nowhere"], 1, "'nowhere' does not exist"),
        (["evaluate", "run", "--data-option", "siz=3"], 1, "Did you mean 'size'"),
        (["evaluate", "run", "--data-option", "siz"], 2, "write NAME=VALUE"),
        (["evaluate", "run", "--batch-size", "0"], 1, "batch_size=0 must be an integer of at"),
        (["predict", "run"], 2, "name PICTURES"),
        (["predict", "run", "nowhere.png"], 1, "no picture and no folder 'nowhere.png'"),
        (["predict", "run", "run/run.json"], 1, "run.json: cannot be read as an image"),
        (["predict", "run", "photos", "--workers=-1"], 1, "workers=-1 must be an integer of"),
        (["predict", "run", "photos", "--batch-size=0"], 1, "batch_size=0 must be an integer"),
        (["predict", "run", "photos", "--out", "photos"], 2, "photos is a folder"),
        (["predict", "run", "photos", "--out", ""], 2, "An empty text is no path"),
        (["maps", "run"], 2, "name PICTURES"),
        (["maps", "run", "photos", "--out", "run/run.json"], 1, "is a file; name a folder"),
        (["export", "run", "--out", "photos"], 1, "photos is a folder; name the file"),
        (["export", "run", "--format", "tflite"], 2, '"onnx", "pt2", "torchscript"'),
    ],
)
def test_what_is_wrong_is_told(words: list[str], code: int, said: str, typed: Typed) -> None:
    shutil.copy("run/network.safetensors", "alone.safetensors")
    done = typed(*words)
    assert done[:2] == (code, "")
    assert said in " ".join(done[2].split())
    assert "unexpected" not in done[2]
    assert {path.name for path in Path().iterdir()} == {"run", "photos", "alone.safetensors"}


@pytest.mark.parametrize("command", ["evaluate", "predict", "maps", "export"])
def test_help_names_its_arguments_and_an_example(command: str, typed: Typed) -> None:
    code, out, _ = typed(command, "--help")
    assert code == 0
    usage = next(line for line in out.splitlines() if line.strip())
    assert usage.startswith(f"Usage: attnzoo {command}")
    assert ("RUN PICTURES…" in usage) == (command in ("predict", "maps"))
    assert "ARGS" not in out
    assert f"attnzoo {command} runs/<run>" in out.partition("Examples:")[2]


def test_share_writes_a_folder_with_the_results_of_the_run(
    typed: Typed, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = typed("share", "run", "shared", "--license", "mit")
    assert (code, out) == (0, "Shared: shared\n")
    card = Path("shared/README.md").read_text("utf-8")
    result = json.loads((run.folder / "result.json").read_text("utf-8"))
    assert "license: mit" in card
    assert f"On {run.data.name}, its test images:" in card
    assert f"| top1 | {result['top1']:.4g} |" in card
    assert str(run.data) not in card
    assert "- classes, in the order of the scores: cat, dog, emu" in card
    assert typed("evaluate", "shared", "--data", "photos")[0] == 0
    assert typed("share", "run", "shared", "--private")[0] == 2

    with fake_hub() as (address, hub):
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
        code, out, _ = typed("share", "run", "shared", "--push", "me/net")
    assert code == 0
    assert f"Uploaded: {address}/me/net/commit/" in out
    assert b'from_pretrained("me/net")' in hub.repositories["me/net"]["README.md"]
    weights = hub.repositories["me/net"]["network.safetensors"]
    Path("down").mkdir()
    Path("down/network.safetensors").write_bytes(weights)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted = open_network("run").model(image)
        assert torch.equal(attnzoo.from_pretrained("down")(image), wanted)
