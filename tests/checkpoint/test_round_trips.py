"""Every block by every mechanism, saved plain, compiled and under DDP, read by a fresh process.

In a network of images, and in those of several inputs, of signals, of frames in the batch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from places import ROOT
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torchvision.models.resnet import BasicBlock

import attnzoo
from attnzoo.registry import BLOCKS

pytestmark = pytest.mark.no_cover

SIZE = (3, 32, 32)
AROUND = ("plain", "ddp", "compiled")
PLACES = {"slot": "slot.bn2", "insert": "insert.act", "hook": "hook", "wrap": "wrap"}
WHERE = [
    ("match", {"pattern": list(PLACES.values())}),
    ("match", {"pattern": "replaced", "where": "replace"}),
]
READ = """
import json, sys
from pathlib import Path
import torch, attnzoo
sys.path[:0] = [{here!r}, {support!r}]
from test_round_trips import NETWORKS
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)
wrong = []
for file in sorted(Path({folder!r}).glob("*.safetensors")):
    given, wanted = torch.load(file.with_suffix(".pt"))
    torch.manual_seed(0)
    model = attnzoo.load(file, NETWORKS[file.stem.split("-")[0]]()).eval()
    with torch.no_grad():
        if not torch.equal(model(*given), wanted):
            wrong.append(file.stem)
print(json.dumps(wrong))
"""


class Composite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


class Small(nn.Module):
    """A place for each mechanism."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.slot = BasicBlock(16, 16)
        self.insert = nn.Sequential()
        self.insert.add_module("conv", nn.Conv2d(16, 16, 3, 2, 1))
        self.insert.add_module("act", nn.ReLU())
        self.hook = Composite(16)
        self.wrap = nn.Conv2d(16, 16, 1)
        self.replaced = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.hook(self.insert(self.slot(self.stem(x))))
        x = self.replaced(x)
        return self.head(self.wrap(x).relu().mean((2, 3)))


class Timed(Small):
    """A step of a diffusion network: an image, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Embedding(10, 5)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return super().forward(x) * self.steps(t)


class Signal(Small):
    """Of signals (N, C, L), whose channels are laid out as the rows of a picture."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unflatten(1, (3, -1)))


class Clips(Small):
    """Eight frames of each clip, one after another in the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).unflatten(0, (-1, 8)).mean(1)


NETWORKS = {"image": Small, "timed": Timed, "signal": Signal, "clips": Clips}


def _given(network: str, *, batch: int) -> tuple[Tensor, ...]:
    if network == "timed":
        return torch.randn(batch, *SIZE), torch.randint(10, (batch,))
    if network == "signal":
        return (torch.randn(batch, 96, 32),)
    return (torch.randn(8 * batch if network == "clips" else batch, *SIZE),)


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    meeting = tmp_path_factory.mktemp("group") / "meeting"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("parallel")
def test_a_fresh_process_computes_the_same_bits(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for number, spec in enumerate(BLOCKS):
            _save(spec.name, "image", tmp_path, AROUND)
            for turn, network in enumerate(("timed", "signal", "clips")):  # once in each way
                _save(spec.name, network, tmp_path, [AROUND[(number + turn) % len(AROUND)]])
    finally:
        torch.set_num_threads(threads)
    assert len(list(tmp_path.glob("*.safetensors"))) == 6 * len(list(BLOCKS))
    support = str(ROOT / "tests" / "support")
    script = READ.format(here=str(Path(__file__).parent), support=support, folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def _save(block: str, network: str, folder: Path, ways: Sequence[str]) -> None:
    torch.manual_seed(0)
    plan = attnzoo.plan(NETWORKS[network](), WHERE, block, example=_given(network, batch=1))
    assert sorted(edit.mechanism for edit in plan.edits) == sorted([*PLACES, "replace"])
    model = plan.apply()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
        given = _given(network, batch=2)
        wanted = model.eval()(*given)
    around = {"plain": lambda: model, "ddp": lambda: DistributedDataParallel(model)}
    around["compiled"] = lambda: torch.compile(model)
    for way in ways:
        file = folder / f"{network}-{block.replace(':', '-')}-{way}.safetensors"
        attnzoo.save(around[way](), file, what="all")
        torch.save((given, wanted), file.with_suffix(".pt"))
