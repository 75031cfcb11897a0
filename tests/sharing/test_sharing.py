"""Folders for others: written, described, loaded, and up to a hub and down again."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from hub import fake_hub
from torch import Tensor, nn

import attnzoo
from attnzoo.backbones import NetworkRecipe
from attnzoo.checkpoint import ATTENTION
from attnzoo.errors import CheckpointError, NotWrappedError, OptionError
from attnzoo.hosts import Attention

RECIPE = NetworkRecipe("timm/test_resnet", size=32, classes=("cat", "dog"), num_classes=2)


def opened(model: nn.Module) -> nn.Module:
    """With attention that does something."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Attention) and module.gamma is not None:
                module.gamma.normal_()
    return model


def network(block: str = "cbam") -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=2)
    attnzoo.wrap(model, "post-residual", block, example=(3, 32, 32))
    return opened(model).eval()


def scores(model: nn.Module) -> Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return model(torch.randn(2, 3, 32, 32))


def card(folder: Path) -> Any:
    return huggingface_hub.ModelCard.load(folder / "README.md")


def test_a_whole_network_is_built_again(tmp_path: Path) -> None:
    model = network()
    folder = attnzoo.save_pretrained(
        model,
        tmp_path / "shared",
        network=RECIPE,
        license="mit",
        results={"top1": 0.9312},
        data="Pets, test",
    )
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "network.safetensors"]
    again = attnzoo.from_pretrained(folder)
    assert not again.training
    assert torch.equal(scores(again), scores(model))
    # As the folder of a run, too.
    assert torch.equal(scores(attnzoo.load(folder)), scores(model))
    # Into the plain network, trained by others since.
    given = attnzoo.from_pretrained(folder, timm.create_model("test_resnet", num_classes=2)).eval()
    assert torch.equal(scores(given), scores(model))


def test_the_card_says_what_it_is(tmp_path: Path) -> None:
    told: dict[str, Any] = {"results": {"top1": 0.9312}, "data": "Pets", "license": "mit"}
    attnzoo.save_pretrained(network(), tmp_path, network=RECIPE, name="me/pets", **told)
    read = card(tmp_path)
    assert read.data.library_name == "attnzoo"
    assert read.data.license == "mit"
    assert {"attnzoo", "attention", "cbam"} <= set(read.data.tags)
    (result,) = read.data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == (
        *("Pets", "top1", 0.9312),
    )
    for said in (
        *("# pets", "`timm/test_resnet` with attention", "- `cbam` at 4 places (`post-residual`)"),
        *('attnzoo.from_pretrained("me/pets")', "| top1 | 0.9312 |", "cat, dog", "mit"),
        *("Woo, Park, Lee, Kweon: CBAM", "arXiv [1807.06521]"),
    ):
        assert said in read.text
    cost = attnzoo.cost(network(), (3, 32, 32))
    for site in cost.sites:
        assert f"| `{site.path}` | cbam | {site.channels} |" in read.text
    assert f"{cost.parameters:,} parameters" in read.text


def test_a_card_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    attnzoo.save_pretrained(network(), tmp_path, network=RECIPE)
    attnzoo.save_pretrained(network(), tmp_path, network=RECIPE, license="mit")
    assert card(tmp_path).data.license == "mit"
    (tmp_path / "README.md").write_text("My words.")
    attnzoo.save_pretrained(network("eca"), tmp_path, network=RECIPE)
    assert (tmp_path / "README.md").read_text() == "My words."
    (block, *_) = attnzoo.attention_modules(attnzoo.from_pretrained(tmp_path)).values()
    assert type(block).__name__ == "EfficientChannelAttention"


def test_attention_alone_goes_into_the_plain_network(tmp_path: Path) -> None:
    torch.manual_seed(2)
    plain = timm.create_model("test_resnet", num_classes=2)
    state = {key: value.clone() for key, value in plain.state_dict().items()}
    model = attnzoo.wrap(plain, "post-residual", "se", example=(3, 32, 32))
    attnzoo.freeze(opened(model), keep="fc")
    with torch.no_grad():
        model.fc.weight.add_(1)
    model.eval()
    folder = attnzoo.save_pretrained(model, tmp_path / "shared")
    assert (folder / ATTENTION).is_file()
    with pytest.raises(CheckpointError, match=r"attention of a ResNet.*from_pretrained\(.*, model"):
        attnzoo.from_pretrained(folder)
    fresh = timm.create_model("test_resnet", num_classes=2)
    fresh.load_state_dict(state)
    again = attnzoo.from_pretrained(folder, fresh).eval()
    assert torch.equal(scores(again), scores(model))
    assert "plain = …" in card(folder).text
    with torch.no_grad():
        attnzoo.swap(again, attnzoo.save_pretrained(network("eca"), tmp_path / "other"))
    assert "Efficient" in type(next(iter(attnzoo.attention_modules(again).values()))).__name__


def test_no_function_is_called_because_a_file_says_so(tmp_path: Path) -> None:
    recipe = NetworkRecipe("os:system", {"command": f"touch {tmp_path / 'done'}"})
    attnzoo.save_pretrained(network(), tmp_path / "shared", network=recipe)
    with pytest.raises(CheckpointError, match=r"built by a function, 'os:system'"):
        attnzoo.from_pretrained(tmp_path / "shared")
    assert not (tmp_path / "done").exists()
    given = attnzoo.from_pretrained(
        tmp_path / "shared", timm.create_model("test_resnet", num_classes=2)
    )
    assert len(attnzoo.attention_modules(given)) == 4


def test_what_cannot_be_shared_or_found(tmp_path: Path) -> None:
    with pytest.raises(NotWrappedError):
        attnzoo.save_pretrained(timm.create_model("test_resnet"), tmp_path / "shared")
    with pytest.raises(OptionError, match="top1 on which data"):
        attnzoo.save_pretrained(network(), tmp_path / "shared", results={"top1": 0.5})
    results: Any = {"top1": "high"}
    with pytest.raises(OptionError, match=r"results\['top1'\]='high' must be a number"):
        attnzoo.save_pretrained(network(), tmp_path / "shared", results=results, data="Pets")
    assert not (tmp_path / "shared").exists()
    with pytest.raises(CheckpointError, match="holds neither network"):
        attnzoo.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds no README\.md beside"):
        attnzoo.push_to_hub(tmp_path, "me/net")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        attnzoo.save_pretrained(network(), tmp_path / "file")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    """A hub, where `HF_ENDPOINT` leads."""
    with fake_hub() as (address, hub):
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


def test_a_folder_goes_up_and_comes_down(hub: Any, tmp_path: Path) -> None:
    model = network()
    folder = attnzoo.save_pretrained(model, tmp_path / "shared", network=RECIPE, name="me/net")
    (folder / "checkpoint.pt").write_bytes(b"a run's own")
    address = attnzoo.push_to_hub(folder, "me/net")
    assert "/me/net/commit/" in address
    there = hub.repositories["me/net"]
    assert sorted(there) == ["README.md", "network.safetensors"]
    assert all(there[name] == (folder / name).read_bytes() for name in there)
    again = attnzoo.from_pretrained("me/net")
    assert torch.equal(scores(again), scores(model))


def test_a_repository_that_is_not_there(hub: Any) -> None:
    with pytest.raises(CheckpointError, match="'me/nothing' is no folder here, and no repository"):
        attnzoo.from_pretrained("me/nothing")
    with pytest.raises(CheckpointError, match="'no such/name at all' is no folder here"):
        attnzoo.from_pretrained("no such/name at all")
