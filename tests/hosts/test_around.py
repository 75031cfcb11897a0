"""What stands around a network has no part in names: not in files, paths, or what is frozen."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm.utils
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import attnzoo
from attnzoo.errors import CheckpointError
from attnzoo.hosts import Attention, bare


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        nn.Linear(128, 4),
    ).eval()


def attended() -> nn.Module:
    model = attnzoo.wrap(net(), "pre-pool", "se", example=(3, 16, 16))
    for module in model.modules():
        if isinstance(module, Attention):
            nn.init.normal_(module.gamma)
    return model


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def first_part_compiled(model: nn.Module) -> nn.Module:
    model[0] = torch.compile(model[0], backend="eager")
    return model


AROUND: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compiled": compiled,
    "a part compiled": first_part_compiled,
    "DataParallel": nn.DataParallel,
    "both": lambda model: nn.DataParallel(compiled(model)),
    "averaged": AveragedModel,
    "timm's average": timm.utils.ModelEmaV3,
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("what", ["attention", "all"])
def test_files_are_those_of_the_network_itself(around: str, what: str, tmp_path: Path):
    model, path = attended(), tmp_path / "a.safetensors"
    attnzoo.save(model, tmp_path / "plain.safetensors", what)
    x = torch.randn(2, 3, 16, 16)
    expected = model(x)
    attnzoo.save(AROUND[around](model), path, what)
    one, other = attnzoo.load(path), attnzoo.load(tmp_path / "plain.safetensors")
    assert (one.model, one.recipes) == (other.model, other.recipes)
    assert one.tensors.keys() == other.tensors.keys()
    assert torch.equal(attnzoo.load(path, net())(x), expected)
    inside = attnzoo.wrap(net(), "pre-pool", "se", example=(3, 16, 16))
    outside = AROUND[around](inside)
    assert attnzoo.load(path, outside) is outside
    assert torch.equal(bare(outside)(x), expected)


@pytest.mark.parametrize("around", AROUND)
def test_paths_and_plain_weights_are_those_of_the_network_itself(around: str):
    outside = AROUND[around](attended())
    assert list(attnzoo.attention_modules(outside)) == ["0.attn_pre_3.block", "1.attn_pre_2.block"]
    plain = attnzoo.backbone_state_dict(outside)
    assert list(plain) == list(net().state_dict())
    report = attnzoo.load_backbone(outside, {key: value + 1 for key, value in plain.items()})
    assert report.complete
    assert torch.equal(bare(outside)[-1].bias, net()[-1].bias + 1)
    attnzoo.freeze(outside, until="1", keep=["0.0"])
    trained = {id(p) for p in bare(outside).parameters() if p.requires_grad}
    assert id(bare(outside)[1][0].weight) not in trained
    assert id(bare(outside)[-1].weight) in trained


@pytest.fixture
def one_process() -> Iterator[None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_a_sharded_network_is_saved_whole_and_loaded_in_parts(tmp_path: Path):
    from torch.distributed.fsdp import fully_shard

    model = attended()
    expected = {key: value.clone() for key, value in model.state_dict().items()}
    mesh = torch.distributed.init_device_mesh("cpu", (1,))
    fully_shard(model, mesh=mesh)
    for what in ("attention", "all"):
        attnzoo.save(model, tmp_path / f"{what}.safetensors", what)
        again = attnzoo.load(tmp_path / f"{what}.safetensors", net()).state_dict()
        assert all(torch.equal(again[key], value) for key, value in expected.items())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    attnzoo.load(tmp_path / "all.safetensors", model)
    attnzoo.load_backbone(model, net().state_dict())
    assert all(
        torch.equal(value.full_tensor() if hasattr(value, "full_tensor") else value, expected[key])
        for key, value in model.state_dict().items()
    )


def test_tensors_of_another_kind_are_refused(tmp_path: Path):
    class Packed(torch.Tensor):
        pass

    model = attended()
    model[-1].weight = nn.Parameter(model[-1].weight.detach().as_subclass(Packed))
    with pytest.raises(CheckpointError, match=r"3\.weight is a Packed.*what=.attention"):
        attnzoo.save(model, tmp_path / "a.safetensors", "all")
    attnzoo.save(model, tmp_path / "a.safetensors")
