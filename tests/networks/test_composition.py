"""Wrapped models under everything else people do with a model."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from patches import onnx_registry_kept
from places import SUPPORT
from timm.layers import convert_sync_batchnorm as timm_convert_sync_batchnorm
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.hooks import RemovableHandle
from zoo import BACKBONES, EVERY_MECHANISM, AllMechanisms, example, outputs, same_bits, snapshot

import attnzoo
from attnzoo.hosts.attention import Attention

pytestmark = pytest.mark.no_cover
SIZE = (3, 64, 64)


POLICY = EVERY_MECHANISM
MECHANISMS = ["insert", "wrap", "slot", "slot", "hook", "hook", "replace", "wrap"]
STARTS = ["identity", "neutral", "paper"]
every_start = pytest.mark.parametrize("start", STARTS)


def _wrapped(start: str = "identity", block: str = "se", *, effect: bool = True) -> nn.Module:
    """`AllMechanisms` in eval mode; with `effect`, every attention has left its start."""
    torch.manual_seed(5)
    model = AllMechanisms().eval()
    # In a module's place there is no neutral start.
    policy = [p for p in POLICY if start != "neutral" or p[1].get("where") != "replace"]
    attnzoo.wrap(model, policy, block, start=start, example=SIZE)
    if effect:
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, Attention) and module.gamma is not None:
                    module.gamma.fill_(0.7)
                elif isinstance(module, Attention) and start == "neutral":
                    for parameter in module.parameters():
                        parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def _calls(model: nn.Module, x: Tensor) -> list[str]:
    """Paths of the attention that runs in one forward pass, in order."""
    ran: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, path=path: ran.append(path))
        for path, module in model.named_modules()
        if isinstance(module, Attention)
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return ran


def test_the_network_has_every_mechanism() -> None:
    plan = attnzoo.plan(AllMechanisms(), POLICY, example=SIZE)
    assert sorted(edit.mechanism for edit in plan.edits) == sorted(MECHANISMS)
    model = plan.apply()
    assert sorted(_calls(model, example())) == sorted(edit.path for edit in plan.edits)


def _still_whole(again: nn.Module, original: nn.Module, before: Tensor) -> None:
    """`again` computes the same and can be unwrapped, without any effect on `original`."""
    x = example()
    state = snapshot(original)
    assert same_bits(outputs(again, x), before)
    assert _calls(again, x) == _calls(original, x)
    assert len(_calls(again, x)) >= len(MECHANISMS) - 1
    plain = AllMechanisms()
    assert list(attnzoo.unwrap(again).state_dict()) == list(plain.state_dict())
    assert [type(m) for m in again.modules()] == [type(m) for m in plain.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in again.modules())
    assert snapshot(original) == state


@every_start
def test_deepcopy(start: str) -> None:
    model = _wrapped(start)
    before = outputs(model)
    again = copy.deepcopy(model)
    theirs, mine = dict(again.named_parameters()), dict(model.named_parameters())
    assert all(theirs[name] is not parameter for name, parameter in mine.items())
    _still_whole(again, model, before)
    assert same_bits(outputs(model), before)


@every_start
def test_pickle(start: str) -> None:
    model = _wrapped(start)
    before = outputs(model)
    _still_whole(pickle.loads(pickle.dumps(model)), model, before)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    _still_whole(torch.load(file, weights_only=False), model, before)


def test_hooks_registered_after_unpickling_leave_attention_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a fresh process the numbers of hooks start anew, which is where they could collide."""
    model = attnzoo.wrap(
        BACKBONES["timm/regnetx_002"](), ["post-residual", "in-residual"], "se", example=SIZE
    )
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Attention):
                module.gamma.fill_(0.5)
    x = example()
    expected, ran = outputs(model, x), _calls(model.eval(), x)
    written = pickle.dumps(model)
    monkeypatch.setattr(RemovableHandle, "next_id", 0)
    model = pickle.loads(written)
    hooks = [(*m._forward_hooks, *m._forward_pre_hooks) for m in model.modules()]
    taken = [number for numbers in hooks for number in numbers]
    assert len(taken) > 10
    assert RemovableHandle.next_id > max(taken)
    seen, calls = [], []
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
        else:
            module.register_forward_hook(lambda *_: seen.append(1))
            module.register_forward_pre_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        assert torch.equal(model(x), expected)
    assert calls == ran
    assert len(seen) > 100
    assert not any(hasattr(m, "attn_out") for m in attnzoo.unwrap(model).modules())


@pytest.mark.parametrize(
    ("start", "block"), [("identity", "local"), ("neutral", "local"), ("paper", "cbam")]
)
def test_compile_without_a_graph_break(start: str, block: str) -> None:
    model, x = _wrapped(start, block), example()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert same_bits(compiled(x), model(x))


@pytest.mark.parametrize("start", ["identity", "neutral"])
def test_compile_with_gradients(start: str) -> None:
    model, x = _wrapped(start).train(), example()
    twin = copy.deepcopy(model)
    torch._dynamo.reset()
    torch.compile(model, fullgraph=True, backend="aot_eager")(x).sum().backward()
    twin(x).sum().backward()
    for (name, one), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


@pytest.mark.parametrize(
    ("start", "strict"),
    [("identity", True), ("identity", False), ("neutral", False), ("paper", False)],
)
def test_export(start: str, strict: bool) -> None:
    model, x = _wrapped(start, "local"), example()
    program = torch.export.export(model, (x,), strict=strict)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), model(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", ["identity", "neutral"])
def test_onnx_export(start: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, x = _wrapped(start, "local"), example()
    path = tmp_path / "model.onnx"
    with onnx_registry_kept():
        torch.onnx.export(model, (x,), path, dynamo=True, verbose=False)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(result), outputs(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@every_start
def test_jit_trace(start: str) -> None:
    model, x = _wrapped(start), example()
    traced = torch.jit.trace(model, x)
    other = example() * 2
    torch.testing.assert_close(traced(other), outputs(model, other))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", ["identity", "neutral"])
def test_jit_script_of_slots_hooks_and_entries(start: str) -> None:
    model = BACKBONES["resnet18"]().eval()
    attnzoo.wrap(model, ["in-residual", "post-residual"], "se", start=start, example=SIZE)
    x = example()
    torch.testing.assert_close(torch.jit.script(model)(x), outputs(model, x))


@pytest.mark.parametrize(
    "convert", [nn.SyncBatchNorm.convert_sync_batchnorm, timm_convert_sync_batchnorm]
)
@pytest.mark.parametrize("start", ["identity", "paper"])
def test_convert_sync_batchnorm(convert: Any, start: str) -> None:
    model, x = _wrapped(start, "cbam"), example()
    before, ran = outputs(model, x), _calls(model, x)
    model = convert(model)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    assert not any(type(module) is nn.BatchNorm2d for module in model.modules())
    model.eval()  # in eval mode a SyncBatchNorm is a BatchNorm
    assert _calls(model, x) == ran
    torch.testing.assert_close(outputs(model, x), before)
    if start == "identity":
        for path, module in model.named_modules():
            if isinstance(module, Attention):
                with torch.no_grad():
                    module.gamma.neg_()
                    assert not torch.equal(model(x), before), path
                    module.gamma.neg_()
    attnzoo.unwrap(model)
    assert list(model.state_dict()) == list(AllMechanisms().state_dict())
    assert isinstance(model.norm, nn.SyncBatchNorm)


def test_convert_sync_batchnorm_of_timm_networks() -> None:
    for name in ("timm/regnetx_002", "timm/efficientnet_b0", "timm/densenet121"):
        model = BACKBONES[name]().eval()
        norms = ("match", {"type": "BatchNormAct2d", "every": 4, "occupied": "skip"})
        attnzoo.wrap(model, ["auto", norms], "se", example=SIZE)
        before, ran = outputs(model), _calls(model, example())
        model = timm_convert_sync_batchnorm(model).eval()
        assert _calls(model, example()) == ran
        torch.testing.assert_close(outputs(model), before)


@every_start
def test_autocast(start: str) -> None:
    model = _wrapped(start, "local", effect=False)
    x = example()
    if start != "paper":
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            after = model(x)
            before = attnzoo.unwrap(model)(x)
        assert before.dtype == torch.bfloat16
        assert same_bits(after, before)
    model = _wrapped(start).train()
    with torch.autocast("cpu", torch.bfloat16):
        model(x).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


@every_start
def test_gradient_checkpointing(start: str) -> None:
    for reentrant in (True, False):
        model, x = _wrapped(start).train(), example().requires_grad_()
        twin = copy.deepcopy(model)
        checkpoint(model, x, use_reentrant=reentrant).sum().backward()
        twin(example()).sum().backward()
        for (name, one), other in zip(model.named_parameters(), twin.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad), name


def test_timm_gradient_checkpointing() -> None:
    model = BACKBONES["timm/convnext_atto"]()
    attnzoo.wrap(model, "post-residual", "se", example=SIZE)
    before = outputs(model)
    model.set_grad_checkpointing()
    assert same_bits(outputs(model), before)
    model.train()(example()).sum().backward()
    assert all(
        p.grad is not None
        for m in attnzoo.attention_modules(model).values()
        for p in m.parameters()
    )


@every_start
def test_functional_call_and_vmap_over_gradients(start: str) -> None:
    model, x = _wrapped(start), example()
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        assert same_bits(torch.func.functional_call(model, state, (x,)), model(x))

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, (image[None],)).sum()

    parameters = {name: p.detach() for name, p in model.named_parameters()}
    per_image = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    summed = torch.autograd.grad(model(x).sum(), list(model.parameters()))
    for name, gradient in zip(parameters, summed, strict=True):
        torch.testing.assert_close(per_image[name].sum(0), gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "efficientnet_b0",
        "convnext_atto",
        "regnetx_002",
        "mobilenetv3_small_050",
        "densenet121",
    ],
)
def test_timm_features_only(name: str) -> None:
    model = timm.create_model(name, features_only=True).eval()
    x = example()
    with torch.no_grad():
        before = [feature.clone() for feature in model(x)]
        untouched = snapshot(model)
        plan = attnzoo.plan(model, "auto", "se", example=SIZE)
        assert snapshot(model) == untouched
        plan.apply()
        assert _calls(model, x) == [edit.path for edit in plan.edits]
        after = model(x)
    assert len(plan.sites) >= 3
    assert all(same_bits(one, other) for one, other in zip(after, before, strict=True))
    assert snapshot(attnzoo.unwrap(model)) == untouched


@pytest.mark.parametrize("name", ["resnet18", "timm/efficientnet_b0", "timm/densenet121"])
def test_timm_forward_intermediates_and_torchvision_extractors(name: str) -> None:
    model = BACKBONES[name]().eval()
    attnzoo.wrap(model, ["auto", ("stage-end", {"occupied": "skip"})], "se", example=SIZE)
    x = example()
    with torch.no_grad():
        if name.startswith("timm"):
            plain = attnzoo.unwrap(copy.deepcopy(model))
            one, other = model.forward_intermediates(x)[1], plain.forward_intermediates(x)[1]
            assert all(same_bits(a, b) for a, b in zip(one, other, strict=True))
        else:
            extract = torchvision.models.feature_extraction.create_feature_extractor
            extractor = extract(attnzoo.unwrap(model), {"layer1": "layer1", "layer4": "layer4"})
            before, untouched = extractor(x), snapshot(extractor)
            attnzoo.wrap(extractor, "auto", "se", example=SIZE)
            for key, value in extractor(x).items():
                assert same_bits(value, before[key])
            assert snapshot(attnzoo.unwrap(extractor)) == untouched


_TWO_PROCESSES = """
import sys, torch, torch.distributed as dist
import attnzoo
sys.path[:0] = {tests!r}
from test_composition import _wrapped, _calls
from attnzoo.hosts.attention import Attention
rank = int(sys.argv[1])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
model = _wrapped("identity").train()
parallel = torch.nn.parallel.DistributedDataParallel(model)
torch.manual_seed(rank)
parallel(torch.randn(2, 3, 64, 64)).square().sum().backward()
for name, parameter in model.named_parameters():
    assert parameter.grad is not None, name
    gradients = [torch.empty_like(parameter) for _ in range(2)]
    dist.all_gather(gradients, parameter.grad)
    assert torch.equal(*gradients), name
attention = [p for m in model.modules() if isinstance(m, Attention) for p in m.parameters()]
assert attention and all(p.grad.abs().sum() >= 0 for p in attention)
assert all(m.gamma.grad.abs().sum() > 0 for m in model.modules() if isinstance(m, Attention))
try:
    attnzoo.plan(parallel, example=(3, 64, 64))
except attnzoo.errors.UnsupportedModelError as error:
    assert "parallel" in str(error)
else:
    raise AssertionError("a model under DDP was accepted")
dist.destroy_process_group()
print("fine")
"""


def test_two_processes_under_ddp(tmp_path: Path) -> None:
    script = _TWO_PROCESSES.format(tests=[str(Path(__file__).parent), str(SUPPORT)])
    command = [sys.executable, "-W", "ignore", "-c", script]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "rendezvous")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        out, errors = process.communicate(timeout=120)
        assert out.strip() == "fine", errors
