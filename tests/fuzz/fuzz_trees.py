"""Random module trees, aliases among them: wrapped, saved, loaded and unwrapped."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from harness import fuzzer
from torch import Tensor, nn

import attnzoo

C, SIZE = 4, (4, 8, 8)


class Add(nn.Module):
    def __init__(self, inner: nn.Module, after: bool) -> None:
        super().__init__()
        self.inner, self.after = inner, after

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.inner(x)
        return torch.relu(y) if self.after else y


class Listed(nn.Module):
    def __init__(self, layers: list[nn.Module], first: bool) -> None:
        super().__init__()
        if first:
            self.all = nn.ModuleList(layers)
        for number, layer in enumerate(layers):
            self.add_module(f"layer{number}", layer)
        if not first:
            self.all = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.all:
            x = layer(x)
        return x


def tree(draw: random.Random, depth: int = 3) -> nn.Module:
    kind = draw.choice(["leaf", "add", "listed", "row", "row"] if depth else ["leaf"])
    if kind == "add":
        return Add(tree(draw, depth - 1), draw.random() < 0.5)
    layers = [tree(draw, depth - 1) for _ in range(draw.randrange(1, 4))] if depth else []
    if kind == "listed":
        return Listed(layers, draw.random() < 0.5)
    if kind == "row":
        return nn.Sequential(*layers)
    leaves = [
        lambda: nn.Conv2d(C, C, 3, padding=1),
        lambda: nn.BatchNorm2d(C),
        nn.ReLU,
        lambda: nn.MaxPool2d(3, 1, 1),
        lambda: nn.Sequential(nn.Conv2d(C, C, 1), nn.BatchNorm2d(C), nn.ReLU()),
    ]
    return draw.choice(leaves)()


def case(draw: random.Random, place: Path) -> str:
    state = draw.getstate()
    plain = nn.Sequential(nn.Conv2d(C, C, 3, padding=1), nn.ReLU(), tree(draw)).eval()
    draw.setstate(state)
    model = nn.Sequential(nn.Conv2d(C, C, 3, padding=1), nn.ReLU(), tree(draw)).eval()
    model.load_state_dict(plain.state_dict())
    x = torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(0))
    policies = [name for name in attnzoo.list_policies() if name != "match"]
    policy = draw.choice([*policies, ("match", {"pattern": draw.choice(["*0", "*1", "*2"])})])
    with torch.no_grad():
        before = model(x)
        attnzoo.wrap(model, policy, draw.choice(["se", "eca", "cbam", "local"]), example=SIZE)
        if not torch.equal(model(x), before):
            return "silent"
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(0.5)
        plain.load_state_dict(attnzoo.backbone_state_dict(model), strict=True)
        attnzoo.load_backbone(model, plain.state_dict())
        what = draw.choice(["attention", "all"])
        attnzoo.save(model, place / "file", what=what)
        trained = model(x)
        if not torch.equal(attnzoo.load(place / "file", plain)(x), trained):
            return "silent"
        attnzoo.unwrap(model)
        return "right" if torch.equal(model(x), before) else "lost"


fuzz = fuzzer(case)
