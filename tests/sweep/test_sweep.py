"""One network of every architecture file under every policy; and the sweep over them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from places import ROOT
from torch import Tensor, nn

import attnzoo
from attnzoo.errors import DataError, OptionError, UnknownNameError
from attnzoo.sweep import POLICIES, check_network, kind_of, read_rows, summary, sweep, write_rows
from attnzoo.sweep.check import _learns, _one_line
from attnzoo.sweep.networks import Trial
from attnzoo.sweep.table import Row
from attnzoo.tracing.probe import probe

# The smallest convolutional network of every file that has one. Detectors and segmentation networks
# have files of their own: test_detection.py and test_segmentation.py.
TORCHVISION = """
    alexnet convnext_tiny densenet121 efficientnet_b0 googlenet inception_v3 mnasnet0_5
    mobilenet_v2 mobilenet_v3_small quantized_googlenet quantized_inception_v3
    quantized_mobilenet_v2 quantized_mobilenet_v3_large quantized_resnet18
    quantized_shufflenet_v2_x0_5 regnet_y_400mf resnet18 shufflenet_v2_x0_5 squeezenet1_1 vgg11
"""
TIMM = """
    convmixer_768_32 cs3darknet_focus_s cspnext_tiny densenet121 dla46x_c dpn48b
    ese_vovnet19b_slim_dw fastvit_t8 fasternet_t0 focalnet_tiny_srf ghostnet_050 hgnetv2_b0
    hrnet_w18_small inception_next_atto inception_resnet_v2 inception_v3 inception_v4
    lcnetv2_small legacy_seresnet18 legacy_xception lowformer_e1 mobilenetv3_small_050
    nasnetalarge pnasnet5large poolformerv2_s12 rdnet_tiny regnetx_002 repghostnet_050 repvit_m1
    resnetv2_18 rexnet_100 selecsls42 starnet_s050 swiftformer_xs test_byobnet test_convnext
    test_efficientnet test_mambaout test_nfnet test_resnet tresnet_m vgg11 xception41p
"""
ONE_OF_EACH = [f"torchvision/{name}" for name in TORCHVISION.split()]
ONE_OF_EACH += [f"timm/{name}" for name in TIMM.split()]


# Of these the policy `auto` alone, for time. `make sweep` tries every policy on all.
SLOW = """
    timm/convmixer_768_32 timm/densenet121 timm/dpn48b timm/fastvit_t8 timm/focalnet_tiny_srf
    timm/ghostnet_050 timm/hrnet_w18_small timm/inception_next_atto timm/inception_resnet_v2
    timm/inception_v3 timm/inception_v4 timm/lcnetv2_small timm/legacy_xception timm/lowformer_e1
    timm/nasnetalarge timm/pnasnet5large timm/poolformerv2_s12 timm/rdnet_tiny
    timm/repghostnet_050 timm/repvit_m1 timm/tresnet_m timm/xception41p
    torchvision/convnext_tiny torchvision/inception_v3 torchvision/quantized_googlenet
    torchvision/quantized_inception_v3 torchvision/quantized_mobilenet_v2
    torchvision/quantized_mobilenet_v3_large torchvision/quantized_resnet18
    torchvision/quantized_shufflenet_v2_x0_5 torchvision/regnet_y_400mf
"""


@pytest.mark.no_cover
@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
def test_every_promise_holds_on_every_architecture(name: str) -> None:
    slow = name in SLOW.split()
    rows = check_network(name, ["auto"] if slow else POLICIES)
    assert [row for row in rows if row.result not in ("ok", "no places")] == []
    found = {row.policy: row.sites for row in rows if row.result == "ok"}
    assert found["auto"] > 0
    assert slow or found["stage-end"] > 0
    assert {row.kind for row in rows} == {"cnn"}


class Broken(nn.Module):
    """A block that counts on running, and is caught where it does not."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.unused = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class Unfaithful(Broken):
    """A block whose parameters all learn, but whose gradient is not a number."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight * (1 + 0 * (self.unused - self.unused).sqrt())


@pytest.mark.parametrize(
    ("block", "says"), [(Broken, "unused gets no gradient"), (Unfaithful, "is not finite")]
)
def test_a_promise_that_does_not_hold_is_found(
    block: type[nn.Module], says: str, monkeypatch: pytest.MonkeyPatch, registries: None
) -> None:
    attnzoo.register_block("test-broken")(block)
    monkeypatch.setattr("attnzoo.sweep.check._BLOCK", "test-broken")
    (row,) = check_network("torchvision/squeezenet1_1", ["pre-pool"])
    assert row.result == "broken"
    assert says in row.reason
    assert row.sites == 3


def test_changed_outputs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = attnzoo.hosts.attention.Attention.forward
    monkeypatch.setattr(
        "attnzoo.hosts.attention.Attention.forward",
        lambda self, x, base=None: forward(self, x, base) * 1.0001,
    )
    (row,) = check_network("torchvision/squeezenet1_1", ["pre-pool"])
    assert (row.result, row.reason) == ("broken", "outputs after wrap differ from those before")


def test_the_step_that_shows_who_learns_leaves_the_network_as_it_was() -> None:
    model = attnzoo.wrap(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        ("match", {"pattern": "2"}),
        "se",
        example=(3, 16, 16),
    )
    model[0].bias.requires_grad_(False)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    state = {
        key: tensor.clone() for key, tensor in model.state_dict().items() if "gamma" not in key
    }
    _learns(Trial(model, 16, 3), "cpu")
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in state.items())
    assert model[0].weight.grad is None


def test_what_is_refused_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise attnzoo.errors.SiteError("this place is taken")

    monkeypatch.setattr("attnzoo.surgery.planning.choose_edit", refuses)
    (row,) = check_network("torchvision/squeezenet1_1", ["pre-pool"])
    assert (row.result, row.reason) == ("refused", "SiteError: this place is taken")


def test_what_is_not_a_cnn_is_not_swept() -> None:
    (row,) = check_network("timm/test_vit")
    assert (row.kind, row.policy, row.result) == ("other", "", "not convolutional")
    (row,) = check_network("torchvision/no_such_net")
    assert row.result == "not followed"
    assert "no_such_net" in row.reason


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), "cnn"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.Conv2d(4, 4, 1)), "other"),
        (lambda: WithAttention(nn.Conv2d(3, 4, 3)), "hybrid"),
        (lambda: WithAttention(nn.Conv2d(3, 4, 16, stride=16)), "other"),
    ],
)
def test_kinds_of_networks(build: Callable[[], nn.Module], kind: str) -> None:
    assert kind_of(probe(build(), (3, 64, 64))) == kind


class WithAttention(nn.Module):
    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem = stem

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2)
        return x @ (x.transpose(1, 2) @ x).softmax(-1)


# --- the table ------------------------------------------------------------------------------------


def test_a_sweep_is_written_down_and_goes_on_where_it_was(tmp_path: Path) -> None:
    out, seen = tmp_path / "deep" / "table.csv", []
    asked = ("pre-pool", "auto")
    rows = sweep(
        out, "timm/test_[rv]*t", policies=asked, workers=1, watch=lambda *n: seen.append(n)
    )
    assert read_rows(out) == sorted(rows, key=lambda row: (row.model, row.policy))
    by_key = {(row.model, row.policy): row for row in rows}
    assert by_key["timm/test_resnet", "auto"].result == "ok"
    assert by_key["timm/test_resnet", "auto"].version
    assert by_key["timm/test_vit", ""].result == "not convolutional"
    assert [count for count, _, _ in seen] == list(range(1, len(seen) + 1))
    assert not list(out.parent.glob(".*"))

    out.write_text(out.read_text().replace("timm/test_resnet,resnet,cnn,auto", "timm/gone,,cnn,x"))
    again: list[str] = []
    sweep(out, "timm/test_[rv]*t", policies=asked, workers=1, watch=lambda *n: again.append(n[2]))
    assert again == ["timm/test_resnet"]


def test_a_sweep_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no backbone"):
        sweep(tmp_path / "t.csv", "timm/no_such_*")
    with pytest.raises(UnknownNameError, match="no policy is called 'pre-pol'"):
        sweep(tmp_path / "t.csv", "timm/test_resnet", policies=["pre-pol"])
    with pytest.raises(OptionError, match="workers=0"):
        sweep(tmp_path / "t.csv", "timm/test_resnet", workers=0)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="is not a sweep's table"):
        sweep(tmp_path / "other.csv", "timm/test_resnet")
    assert [path.name for path in tmp_path.iterdir()] == ["other.csv"]


def test_a_worker_that_dies_leaves_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnzoo.sweep.run.check_network", _dies)
    with pytest.raises(DataError, match="a process of the sweep died"):
        sweep(tmp_path / "t.csv", "timm/test_resnet", workers=1)
    assert read_rows(tmp_path / "t.csv") == []


def _dies(name: str, policies: object) -> None:
    import os

    os._exit(1)


def test_the_summary_counts_by_policy_library_and_kind(tmp_path: Path) -> None:
    rows = [
        Row("timm/a", "f", "cnn", "auto", sites=2, result="ok"),
        Row("timm/b", "f", "cnn", "auto", result="no places"),
        Row("timm/c", "f", "cnn", "auto", sites=1, result="broken", reason='a "b", c'),
        Row("timm/d", "f", "other", "", result="not convolutional"),
    ]
    tallies = summary(rows)
    assert list(tallies) == [("auto", "timm", "cnn")]
    tally = tallies["auto", "timm", "cnn"]
    assert (tally.networks, tally.with_places, tally.ok) == (3, 2, 1)
    write_rows(tmp_path / "t.csv", rows)
    assert read_rows(tmp_path / "t.csv") == rows


def test_networks_with_weights_are_swept_when_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(
        "attnzoo.sweep.run.list_backbones",
        lambda pattern: ["pretrained/efficientnet_lite0", "timm/efficientnet_lite0"],
    )
    monkeypatch.setattr(
        "attnzoo.sweep.run._checked", lambda names, *_: iter(asked.append(names) or ())
    )
    for pattern in ("*", "pretrained/*"):
        sweep(tmp_path / "table.csv", pattern)
    assert asked[0] == ["timm/efficientnet_lite0"]
    assert "pretrained/efficientnet_lite0" in asked[1]


def test_reasons_name_no_folder_of_the_machine() -> None:
    told = "stopped,\n  at /home/me/lib/site-packages/torchvision/models/ssd.py:436"
    assert _one_line(told) == "stopped, at torchvision/models/ssd.py:436"
    table = ROOT / "docs" / "data" / "coverage.csv"
    assert "site-packages" not in table.read_text("utf-8")
