"""The model card of a shared folder: what it is, how to load it, its places, cost and results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn

from attnzoo.backbones import NetworkRecipe
from attnzoo.checks import counted
from attnzoo.costs import Cost, cost
from attnzoo.errors import TraceError
from attnzoo.hosts import get_module
from attnzoo.registry import BLOCKS
from attnzoo.surgery import Operation, operations

__all__ = ["Facts", "model_card"]

CLASSES = 20
"""Names of classes that a card lists."""


@dataclass(frozen=True)
class Facts:
    """What there is to say that the network itself does not tell.

    Attributes:
        name: title of the card, and what the code that it shows loads.
        whole: whether the folder has all that it takes to build the network.
        of_transformers: whether the plain network is in transformers' own files.
        network: how the plain network is built, where that is known.
        license: identifier, such as `"mit"`.
        results: metric → value.
        data: what the results are of.
        task: as the Hugging Face Hub calls it.
    """

    name: str
    whole: bool
    of_transformers: bool = False
    network: NetworkRecipe | None = None
    license: str | None = None
    results: Mapping[str, float] = field(default_factory=dict)
    data: str = ""
    task: str = "image-classification"


def model_card(model: nn.Module, facts: Facts) -> str:
    """`README.md`: data about the network in YAML, as the hub reads it, and text."""
    done = [operation for _, operation in operations(model)]
    parts = [
        f"---\n{_metadata(facts, done)}\n---",
        f"# {facts.name.rpartition('/')[2]}",
        "\n".join(_what(model, facts, done)),
        "## How to load it",
        _loading(model, facts),
        *_places(model, facts),
        *_results(facts),
        *_pictures(facts),
        *_papers(done),
        "## Licence",
        facts.license or "Not said: ask whoever shares it before you use it.",
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(facts: Facts, done: Iterable[Operation]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    blocks = dict.fromkeys(operation.recipe.block for operation in done)
    found = [
        EvalResult(
            task_type=facts.task,
            dataset_type=facts.data,
            dataset_name=facts.data,
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in facts.results.items()
    ]
    told = ModelCardData(
        library_name="attnzoo",
        license=facts.license,
        pipeline_tag=facts.task,
        tags=["attnzoo", "attention", *blocks, *(["transformers"] * facts.of_transformers)],
        model_name=facts.name if found else None,
        eval_results=found or None,
    )
    return told.to_yaml()


def _what(model: nn.Module, facts: Facts, done: Iterable[Operation]) -> Iterable[str]:
    plain = type(model).__name__ if facts.network is None else facts.network.backbone
    yield f"`{plain}` with attention by attnzoo:"
    yield ""
    for operation in done:
        recipe = operation.recipe
        options = "".join(f", {key}={value!r}" for key, value in recipe.options.items())
        policies = " + ".join(map(str, recipe.policies))
        yield (
            f"- `{recipe.block}`{options} at {counted(len(operation.sites), 'place')} "
            f"(`{policies}`), start `{recipe.start}`"
        )


def _loading(model: nn.Module, facts: Facts) -> str:
    whole = f'model = attnzoo.from_pretrained("{facts.name}")'
    if facts.whole:
        lines = [whole]
    elif facts.of_transformers:
        lines = [f"{whole}  # needs transformers, too"]
    else:
        plain = type(model).__name__
        lines = [
            f"plain = …  # a {plain} with the weights that the attention was trained beside",
            f'model = attnzoo.from_pretrained("{facts.name}", plain)',
        ]
    code = "\n".join(["```python", "import attnzoo", "", *lines, "```"])
    told = "Nothing in the folder is unpickled, and no code of it is run."
    if not facts.whole and not facts.of_transformers:
        told += " It holds the attention, not the whole network; loading says where another "
        told += "backbone differs from the one that it was trained in."
    if facts.of_transformers:
        told += f" `{type(model).__name__}.from_pretrained` loads the plain network alone."
    return f"{code}\n\n{told}"


def _places(model: nn.Module, facts: Facts) -> Iterable[str]:
    try:
        found: Cost = cost(model, _example(model, facts))
    except TraceError:  # values decide where it goes, or no input is known for it
        return
    own, macs = (
        sum(getattr(site, name) for site in found.sites) for name in ("parameters", "macs")
    )
    rows = [
        f"| `{site.path}` | {site.block} | {site.channels} | {site.height}×{site.width} "
        f"| {site.parameters:,} | {site.macs / 1e6:.2f} |"
        for site in found.sites
    ]
    table = [
        "| place | block | channels | map | parameters | MMACs |",
        "|---|---|---:|---:|---:|---:|",
        *rows,
    ]
    yield "## Where the attention is, and what it costs"
    yield "\n".join(table)
    yield (
        f"{found.parameters:,} parameters, {own:,} of them attention's; "
        f"{found.macs / 1e6:,.2f} M multiply-accumulate operations a forward pass, "
        f"{macs / 1e6:,.2f} M of them attention's."
        + (f" Counted up to where values decide: {found.stopped}." if found.stopped else "")
    )


def _example(model: nn.Module, facts: Facts) -> object:
    """What a forward pass takes: as told, as the whole network was traced, or its own default."""
    network = facts.network
    if network is not None and network.size is not None:
        return (network.channels, network.size, network.size)
    for where, operation in operations(model):
        if get_module(model, where) is model and operation.recipe.example is not None:
            return operation.recipe.example
    return None


def _results(facts: Facts) -> Iterable[str]:
    if not facts.results:
        return
    yield "## Results"
    yield f"On {facts.data}:"
    rows = [f"| {metric} | {value:.4g} |" for metric, value in facts.results.items()]
    yield "\n".join(["| metric | value |", "|---|---:|", *rows])


def _pictures(facts: Facts) -> Iterable[str]:
    network = facts.network
    if network is None or not (network.input or network.classes):
        return
    yield "## Its pictures"
    names = ", ".join(network.classes[:CLASSES])
    more = f", … ({len(network.classes)} in all)" if len(network.classes) > CLASSES else ""
    lines = [f"- classes, in the order of the scores: {names}{more}"] * bool(names)
    lines += [f"- {key}: {value}" for key, value in network.input.items()]
    yield "\n".join(lines)


def _papers(done: Iterable[Operation]) -> Iterable[str]:
    specs = [BLOCKS[name] for name in dict.fromkeys(operation.recipe.block for operation in done)]
    papers = [
        f"- {spec.paper}"
        + (f", arXiv [{spec.arxiv}](https://arxiv.org/abs/{spec.arxiv})" * bool(spec.arxiv))
        for spec in specs
        if spec.paper
    ]
    if papers:
        yield "## To cite"
        yield "\n".join(papers)
