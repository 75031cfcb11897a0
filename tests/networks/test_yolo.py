"""Ultralytics' YOLO, built from its YAML: its own loss, weight loader, checkpoints and exporters.

What its trainer does with attention is seen in `test_examples.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from patches import others_left_alone
from tasks import let_attention_in, not_learning, run, same_everywhere, tensors
from torch import Tensor, nn
from zoo import snapshot

import attnzoo

with others_left_alone():
    from ultralytics import YOLO
    from ultralytics.nn.tasks import (
        ClassificationModel,
        DetectionModel,
        OBBModel,
        PoseModel,
        SegmentationModel,
        load_checkpoint,
        torch_safe_load,
    )
    from ultralytics.utils.torch_utils import ModelEMA, intersect_dicts

pytestmark = pytest.mark.no_cover

SIZE = 64
EXAMPLE = (3, SIZE, SIZE)

#: YAML → entries of its state dict, and the class of the blocks that its trunk and neck are of.
NETWORKS = {"yolov8n.yaml": (355, "C2f"), "yolo11n.yaml": (499, "C3k2")}

#: Network, policy, and how many sites that finds.
PLACES: list[tuple[str, Any, int]] = [
    ("yolov8n.yaml", "auto", 10),
    ("yolov8n.yaml", "in-residual", 6),
    ("yolov8n.yaml", "stage-end", 5),
    ("yolov8n.yaml", ("match", {"type": "C2f"}), 8),
    ("yolov8n.yaml", ("match", {"type": "SPPF"}), 1),
    ("yolo11n.yaml", "auto", 12),
    ("yolo11n.yaml", "in-residual", 13),
    ("yolo11n.yaml", "stage-end", 5),
    ("yolo11n.yaml", ("match", {"type": "C3k2"}), 8),
    ("yolo11n.yaml", ("match", {"type": "C2PSA"}), 1),
]


#: Networks whose layers share one activation, or whose pools carry Ultralytics' own attributes.
SHARED = {"yolov6n.yaml": "model.6.5", "yolov3-tiny.yaml": "model.8"}


@pytest.mark.parametrize("name", SHARED)
def test_places_are_such_that_layers_can_be_fused(name: str) -> None:
    model = _build(name).eval()
    x = torch.rand(1, *EXAMPLE)
    plan = attnzoo.plan(model, "stage-end", "se", example=EXAMPLE)
    assert SHARED[name] in [site.path for site in plan.sites]
    for policy in ("auto", ("match", {"pattern": "model.1"})):
        held = attnzoo.wrap(copy.deepcopy(model), policy, "se", example=EXAMPLE)
        held(x)
        count = len(attnzoo.attention_modules(held))
        assert len(attnzoo.attention_modules(held.fuse(verbose=False))) == count
        torch.testing.assert_close(held(x)[0], model(x)[0], rtol=1e-4, atol=1e-3)


def _build(name: str, seed: int = 0) -> DetectionModel:
    torch.manual_seed(seed)
    model = DetectionModel(name, nc=3, verbose=False)
    model.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)  # weights of the losses
    return model


def _wrapped(name: str, seed: int = 0) -> DetectionModel:
    """With attention around the trunk's blocks and inside, let in."""
    policies = ["in-residual", ("match", {"type": NETWORKS[name][1]})]
    model = attnzoo.wrap(_build(name, seed), policies, "se", reduction=2, example=EXAMPLE)
    return let_attention_in(model)


def _images() -> Tensor:
    return torch.rand(2, *EXAMPLE, generator=torch.Generator().manual_seed(3))


def _batch() -> dict[str, Tensor]:
    return {
        "img": _images(),
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.tensor([[0.0], [2.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.5], [0.4, 0.6, 0.5, 0.3]]),
    }


def _calls(model: nn.Module) -> list[str]:
    """Attention that runs in a forward pass."""
    ran: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, path=path: ran.append(path))
        for path, module in attnzoo.attention_modules(model).items()
    ]
    run(model, _images())
    for handle in handles:
        handle.remove()
    return ran


@pytest.mark.parametrize(("name", "policy", "sites"), PLACES)
def test_no_key_changes_and_no_bit(name: str, policy: Any, sites: int) -> None:
    model = _build(name)
    before, untouched, plain = run(model, _images()), snapshot(model), model.state_dict()
    assert len(plain) == NETWORKS[name][0]
    plan = attnzoo.plan(model, policy, "local", example=EXAMPLE)
    assert len(plan.sites) == sites
    assert snapshot(model) == untouched
    plan.apply()
    assert same_everywhere(run(model, _images()), before)
    assert len(_calls(model)) == sites

    # what it moves from a pretrained checkpoint: whatever has the same key and shape
    assert len(intersect_dicts(plain, model.state_dict())) == NETWORKS[name][0]
    assert snapshot(attnzoo.unwrap(model)) == untouched


@pytest.mark.parametrize("name", NETWORKS)
def test_its_loss_teaches_all_attention(name: str) -> None:
    model = _wrapped(name).train()
    loss, parts = model(_batch())
    assert tensors(parts)
    assert all(part.isfinite().all() and (part > 0).all() for part in tensors(parts))
    loss.sum().backward()
    assert not_learning(model) == {}


def _masks() -> Tensor:
    masks = torch.zeros(2, SIZE // 4, SIZE // 4)
    masks[:, 4:12, 4:12] = 1
    return masks


#: YAML → how its model is built, and what its batches have beside boxes.
TASKS: dict[str, tuple[Callable[[str], nn.Module], dict[str, Any]]] = {
    "yolov8n-seg.yaml": (
        lambda name: SegmentationModel(name, nc=3, verbose=False),
        {"masks": _masks(), "sem_masks": _masks().long()},
    ),
    "yolo11n-pose.yaml": (
        lambda name: PoseModel(name, verbose=False),
        {"cls": torch.zeros(2, 1), "keypoints": torch.linspace(0.2, 0.8, 102).view(2, 17, 3)},
    ),
    "yolo11n-obb.yaml": (
        lambda name: OBBModel(name, nc=3, verbose=False),
        {"bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.5, 0.3], [0.4, 0.6, 0.5, 0.3, 0.1]])},
    ),
    "yolov8n-cls.yaml": (
        lambda name: ClassificationModel(name, nc=3, verbose=False),
        {"cls": torch.tensor([0, 2])},
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_its_other_tasks(name: str) -> None:
    build, more = TASKS[name]
    torch.manual_seed(0)
    model = build(name)
    model.args = SimpleNamespace(
        box=7.5, cls=0.5, dfl=1.5, pose=12, kobj=1, rle=1, angle=1, overlap_mask=True, mask_ratio=4
    )
    before, untouched = run(model, _images()), snapshot(model)
    attnzoo.wrap(model, "auto", "se", reduction=2, example=EXAMPLE)
    assert same_everywhere(run(model, _images()), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched
    attnzoo.wrap(model, "auto", "se", reduction=2, example=EXAMPLE)
    loss, parts = let_attention_in(model).train()(_batch() | more)
    assert all(part.isfinite().all() for part in tensors(parts))
    loss.sum().backward()
    assert not_learning(model) == {}


@pytest.mark.parametrize("name", NETWORKS)
def test_its_loader_moves_plain_weights_both_ways(name: str) -> None:
    pretrained, model = _build(name, seed=1), _wrapped(name)
    theirs = pretrained.state_dict()
    attention = {key: t.clone() for key, t in model.state_dict().items() if key not in theirs}
    model.load(pretrained, verbose=False)
    now = model.state_dict()
    assert all(torch.equal(tensor, now[key]) for key, tensor in theirs.items())
    assert all(torch.equal(tensor, now[key]) for key, tensor in attention.items())
    back = _build(name)
    back.load(model, verbose=False)
    assert same_everywhere(run(back, _images()), run(pretrained, _images()))


@pytest.mark.parametrize("name", NETWORKS)
def test_training_goes_on_with_attention(name: str) -> None:
    """Its trainer builds a plain network and loads what fits; once wrapped, the rest fits too."""
    trained, model = _wrapped(name, seed=1), _build(name)
    model.load(trained, verbose=False)
    for recipe in attnzoo.recipes(trained):
        attnzoo.wrap(model, recipe, example=EXAMPLE)
    assert not same_everywhere(run(model, _images()), run(trained, _images()))
    model.load(trained, verbose=False)
    assert same_everywhere(run(model, _images()), run(trained, _images()))


@pytest.mark.parametrize("name", NETWORKS)
def test_checkpoints_as_its_trainer_writes_them(name: str, tmp_path: Path) -> None:
    model = _wrapped(name)
    ema = ModelEMA(model)
    ema.update(model)
    expected, ran = run(ema.ema.half().float(), _images()), _calls(model)
    path = tmp_path / "last.pt"
    saved = copy.deepcopy(ema.ema).half().to(memory_format=torch.contiguous_format)
    torch.save({"model": None, "ema": saved, "train_args": {}}, path)
    again, _ = load_checkpoint(path)
    assert same_everywhere(run(again, _images()), expected)
    assert _calls(again) == ran
    assert attnzoo.recipes(again) == attnzoo.recipes(model)
    assert list(attnzoo.unwrap(again).state_dict()) == list(_build(name).state_dict())


def test_its_loader_of_known_classes_refuses_attention(tmp_path: Path) -> None:
    torch.save({"model": _wrapped("yolov8n.yaml")}, tmp_path / "last.pt")
    with pytest.raises(TypeError, match="outside the supported Ultralytics checkpoint format"):
        torch_safe_load(tmp_path / "last.pt", safe_only=True)


def test_attention_goes_in_and_out_by_safetensors(tmp_path: Path) -> None:
    model = _wrapped("yolov8n.yaml")
    attnzoo.save(model, tmp_path / "yolo.safetensors", what="all")
    again = attnzoo.load(tmp_path / "yolo.safetensors", _build("yolov8n.yaml", seed=1))
    assert same_everywhere(run(again, _images()), run(model, _images()))


@pytest.mark.parametrize("name", NETWORKS)
def test_attention_lives_on_in_a_fused_network(name: str) -> None:
    model = _wrapped(name).eval()
    before, ran = run(model, _images()), _calls(model)
    model.fuse(verbose=False)
    assert model.is_fused()
    assert _calls(model) == ran
    for one, other in zip(run(model, _images()), before, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    plain = attnzoo.unwrap(copy.deepcopy(model))
    assert not same_everywhere(run(plain, _images()), run(model, _images()))


def test_attention_put_into_a_fused_network() -> None:
    model = _build("yolov8n.yaml").eval().fuse(verbose=False)
    before = run(model, _images())
    attnzoo.wrap(model, "auto", "se", example=EXAMPLE)
    assert same_everywhere(run(model, _images()), before)
    assert len(_calls(model)) == 10


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_its_exporters(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "best.pt"
    model = _wrapped(name).eval()
    torch.save({"model": model, "train_args": {}}, path)
    x, threads = _images()[:1], torch.get_num_threads()
    (expected, *_) = run(model, x)
    try:
        script = YOLO(path).export(format="torchscript", imgsz=SIZE, device="cpu")
        onnx = YOLO(path).export(format="onnx", imgsz=SIZE, device="cpu", simplify=False)
    finally:
        torch.set_num_threads(threads)
    session = runtime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    for got in (torch.jit.load(script)(x), torch.from_numpy(result)):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-2)
