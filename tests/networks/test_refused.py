"""Models that are compiled, parallel, scripted or not built yet are refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from zoo import SIZE, AllMechanisms, Residual, example

import attnzoo
from attnzoo.errors import UnsupportedModelError

pytestmark = pytest.mark.no_cover


def _refuse(model: nn.Module, match: str) -> None:
    for verb in (attnzoo.plan, attnzoo.wrap):
        with pytest.raises(UnsupportedModelError, match=match):
            verb(model, "auto", example=SIZE)


def test_compiled_models_are_refused() -> None:
    _refuse(torch.compile(AllMechanisms(), backend="eager"), "compile it")
    model = AllMechanisms()
    model.residual.compile(backend="eager")
    _refuse(model, "'residual' .*compiled")
    model = AllMechanisms()
    model.residual = torch.compile(model.residual, backend="eager")
    _refuse(model, "'residual'.*compiled")


def test_models_for_parallel_training_are_refused(tmp_path: Path) -> None:
    _refuse(nn.DataParallel(AllMechanisms()), "parallel")
    from torch.distributed.fsdp import fully_shard

    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        _refuse(nn.parallel.DistributedDataParallel(AllMechanisms()), "parallel")
        sharded = AllMechanisms()
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        fully_shard(sharded.residual, mesh=mesh)
        _refuse(sharded, "'residual' .*parallel")
        fully_shard(sharded, mesh=mesh)
        _refuse(sharded, "parallel")
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_scripted_lazy_and_other_things_are_refused() -> None:
    _refuse(torch.jit.script(Residual(3)), "TorchScript")
    _refuse(nn.Sequential(torch.jit.trace(Residual(3).eval(), example())), "TorchScript")
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.MaxPool2d(2))
    _refuse(lazy, "'0' .*Run one forward pass")
    lazy(example())
    assert len(attnzoo.plan(lazy, "pre-pool", example=SIZE).sites) == 1
    _refuse("resnet18", "got str")
