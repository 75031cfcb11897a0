"""`attnzoo train`: one run. Its flags come from the training recipe, whatever that has."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from cyclopts import Group, Parameter

from attnzoo.cli.catalogue import describe, show_facts
from attnzoo.cli.console import is_first_process, megas, progress_console, show_json
from attnzoo.cli.options import (
    ATTENTION,
    BY_DEFAULT,
    NETWORK,
    Attention,
    Backbone,
    BackboneOptions,
    Json,
    Strict,
    UsageError,
    given_path,
    parse_options,
)
from attnzoo.errors import AttnzooError, OptionError
from attnzoo.train import TrainRecipe

__all__ = ["train"]

DATA = Group("Data", sort_key=3)
RECIPE = Group("Training", sort_key=4)
RUN = Group("Run", sort_key=5)
# Of PictureOptions, with the defaults; written out, for its file imports torch.
PICTURES = (
    "`size`, `channels=3`, `mean`, `std`, `interpolation`, `train`, `test`, `crop_scale=0.6,1.0`, "
    "`hflip=0.5`, `color_jitter=0.0`, `auto_augment`, `random_erasing=0.0`, `test_crop`, "
    "`seed=0`, `workers=0`, `digest=sample`, `check=100000`"
)
DIGITS = "cluttered-digits"
LIBRARIES = ("torchvision", "timm")
PAIRS = {"unfreeze": "EPOCH=PATH"}  # fields of a recipe that are mappings, and how a flag has them


def _recipe_flags() -> type:
    """A flag for every field of `TrainRecipe`, None where it is not given."""
    _, explained = describe(TrainRecipe)
    fields = []
    for name, field in TrainRecipe.model_fields.items():
        default = field.get_default(call_default_factory=True)
        usual = "" if default in (None, (), {}) else f" By default {default}."
        text = f"{explained[name][:1].upper()}{explained[name][1:]}{usual}"
        if name in PAIRS:
            given = Parameter(help=text, metavar=PAIRS[name], show_default=False)
            fields.append((name, Annotated[tuple[str, ...], given], ()))
            continue
        kind: Any = field.annotation
        kind = Annotated[kind | None, Parameter(help=text)]
        fields.append((name, kind, None))
    own = {"__module__": __name__}  # a class from the standard library would be no group of flags
    flags = make_dataclass("RecipeFlags", fields, namespace=own, frozen=True, kw_only=True)
    return Parameter(name="*", group=RECIPE)(flags)


if TYPE_CHECKING:

    class RecipeFlags: ...

else:
    RecipeFlags = _recipe_flags()
NOTHING_GIVEN = RecipeFlags()


def train(
    backbone: Backbone | None = None,
    /,
    *,
    backbone_option: BackboneOptions = (),
    weights: Annotated[
        str | None,
        Parameter(
            help="Trained weights to begin with: `DEFAULT` or another name that torchvision or "
            "timm has for them, or a file (safetensors, or of `torch.save`). The head is replaced "
            "where it is for other classes.",
            metavar="NAME|FILE",
            group=NETWORK,
        ),
    ] = None,
    strict: Strict = False,
    attention: Attention = BY_DEFAULT,
    plain: Annotated[
        bool,
        Parameter(
            help="Put nothing in: the network to compare with.",
            group=ATTENTION,
            show_default=False,
        ),
    ] = False,
    data: Annotated[
        str | None,
        Parameter(
            help="A folder with `train/<class>/*.jpg` and `test/<class>/*.jpg` (or `val/`); a CSV "
            "file with the columns `path` and `label`; `package.module:function` of your own, "
            "which returns data sets; a data set of a library, `torchvision/CIFAR10` or "
            "`timm/torch/cifar10`, with `--data-option root=FOLDER`; by default "
            "`cluttered-digits`, which needs no files.",
            metavar="DATA",
            group=DATA,
        ),
    ] = None,
    size: Annotated[int | None, Parameter(help="Side of the images in pixels.", group=DATA)] = None,
    data_option: Annotated[
        tuple[str, ...],
        Parameter(
            help="An option of the data, such as `train=500` or `test=200` (images). Of pictures: "
            f"{PICTURES}.",
            metavar="NAME=VALUE",
            group=DATA,
            show_default=False,
        ),
    ] = (),
    recipe: RecipeFlags = NOTHING_GIVEN,
    config: Annotated[
        Path | None, Parameter(help="A YAML file, or a `run.json`, to start from.", group=RUN)
    ] = None,
    keep: Annotated[
        Literal["attention", "all", "best"] | None,
        Parameter(
            help="What of the network the run's folder keeps, by default `all`: `attention` alone, "
            "the whole as it is at the end, or as it was after the `best` epoch.",
            group=RUN,
        ),
    ] = None,
    out: Annotated[
        Path, Parameter(help="Where the run's folder goes.", group=RUN, converter=given_path)
    ] = Path("runs"),
    json: Json = False,
) -> None:
    """Train one network on one data set."""
    given = _read(config) if config else {}
    given["backbone"] = backbone or given.get("backbone")
    if not given["backbone"]:
        raise UsageError("name a BACKBONE, such as torchvision/resnet18, or give a --config.")
    if backbone_option:
        given["backbone_options"] = parse_options("--backbone-option", backbone_option)
    if weights:
        given["weights"] = weights
    if strict:
        given["strict"] = True
    if keep:
        given["keep"] = keep
    variant = _variant(given.get("variant"), attention, plain)
    images = _data(given.get("data"), data, size, data_option)
    changed = {name: value for name, value in vars(recipe).items() if value not in (None, ())}
    for name in PAIRS.keys() & changed.keys():
        changed[name] = _pairs(name, changed[name])
    training = {**given.get("train", {}), **changed}

    from attnzoo.checkpoint import NETWORK
    from attnzoo.study.runs import put_damaged_aside, read_run
    from attnzoo.train import ProgressWatch, RunSpec, Variant, data_faults, parse, with_digests
    from attnzoo.train import train as run

    # Part by part: each then explains a wrong key by the keys that it has itself.
    if found := data_faults(images, "data"):
        raise OptionError("\n".join(found))
    parts = {
        "variant": parse(Variant, variant, "variant"),
        "data": images,
        "train": parse(TrainRecipe, training, "train"),
    }
    spec = with_digests(parse(RunSpec, {**given, **parts}, "run"))
    folder = out / spec.id
    done = read_run(folder, spec)
    if done is not None and spec.keep != "attention" and not (folder / NETWORK).is_file():
        done = None  # it kept its attention alone, and the network is wanted now
    first, console = is_first_process(), progress_console()
    if done is not None:
        result = run(spec, folder) if spec.strict else done.result
        if first:
            console.print(
                f"This run is done already; to do it again, remove {folder}", soft_wrap=True
            )
    elif first:
        for line in put_damaged_aside(folder, spec):
            console.print(line, soft_wrap=True)
        with redirect_stdout(sys.stderr), ProgressWatch(console) as watch, explained(folder):
            result = run(spec, folder, watch=watch)
    else:  # one of several processes: the first one shows how it goes
        result = run(spec, folder)
    if not first:
        return
    if json:
        show_json({**result.model_dump(mode="json"), "folder": str(folder)})
    else:
        _show(result, folder)
    if result.status == "diverged":
        raise AttnzooError(f"the training diverged: {result.message}")


@contextmanager
def explained(folder: Path) -> Generator[None]:
    """What a network of the user's raises in training, in a line, with where all of it is."""
    try:
        yield
    except (AttnzooError, OSError):
        raise
    except (Exception, SystemExit) as error:
        log = folder.with_name(f".{folder.name}.partial") / "log.txt"
        told = f"sys.exit({error.code!r})" if isinstance(error, SystemExit) else str(error)
        raise AttnzooError(
            f"the training failed: {type(error).__name__}: {told}\nThe traceback is in {log}; the "
            f"same command goes on from the last checkpoint."
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"--config {path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise OptionError(f"--config {path} is no YAML: {error}") from error
    parts = ("variant", "data", "train")
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(part, {}), Mapping) for part in parts
    ):
        raise OptionError(
            f"--config {path}: write a mapping with backbone, and the mappings {', '.join(parts)}."
        )
    return dict(content)


def _variant(before: Mapping[str, Any] | None, attention: Attention, plain: bool) -> dict[str, Any]:
    """What is put in: by the file, with what the flags change."""
    if plain:
        if attention != BY_DEFAULT:
            raise UsageError("--plain puts no attention in; leave out the flags that describe it.")
        return {}
    if attention == BY_DEFAULT and before is not None:
        return dict(before)
    variant = {key: value for key, value in (before or {}).items() if key != "name"}
    if attention.policy or not variant.get("policy"):
        variant["policy"] = attention.policies
    elif attention.policy_option:
        raise UsageError("--policy-option: name the --policy that it belongs to.")
    if attention.block is not None:
        variant["block"] = attention.block
        variant.pop("options", None)  # they were another block's
    if attention.option:
        variant["options"] = attention.block_options
    if attention.start:
        variant["start"] = attention.start
    return variant


def _data(
    before: Mapping[str, Any] | None, name: str | None, size: int | None, options: tuple[str, ...]
) -> dict[str, Any]:
    """What to train on: by the file, with what the flags change."""
    if name is not None:
        library, slash, dataset = name.partition("/")
        if name == DIGITS:
            before = {"name": DIGITS}
        elif slash and library in LIBRARIES and not Path(name).is_dir():
            before = {"name": library, "dataset": dataset}
        elif name.endswith(".csv"):
            before = {"name": "table", "root": name}
        elif ":" in name and not Path(name).is_dir():
            before = {"name": "own", "function": name}
        else:
            before = {"name": "folder", "root": name}
    changed = parse_options("--data-option", options)
    if size is not None:
        changed["size"] = size
    return {**(before or {"name": DIGITS}), **changed}


def _pairs(flag: str, given: tuple[str, ...]) -> dict[str, str]:
    """`("4=layer3", "6=all")` → `{"4": "layer3", "6": "all"}`."""
    pairs = [pair.partition("=") for pair in given]
    for pair in pairs:
        if not all(pair):
            raise UsageError(f"--{flag} {''.join(pair)}: write {PAIRS[flag]}, such as 4=layer3.")
    return {name: value for name, _, value in pairs}


def _weights(note: str) -> str:
    """The first line of what the run said of them: the rest was said when it began."""
    return note.partition("\n")[0].removeprefix("weights: ") or "fresh"


def _show(result: Any, folder: Path) -> None:
    show_facts(
        {
            "backbone": result.backbone,
            "variant": result.variant,
            "seed": str(result.seed),
            "weights": _weights(result.weights_note),
            "top-1": "" if result.top1 is None else f"{100 * result.top1:.1f}%",
            "top-5": "" if result.top5 is None else f"{100 * result.top5:.1f}%",
            "balanced": "" if result.balanced is None else f"{100 * result.balanced:.1f}%",
            "test loss": "" if result.test_loss is None else f"{result.test_loss:.3f}",
            "sites": str(result.sites),
            "parameters": f"{result.parameters:,}",
            "MMACs": megas(result.macs),
            "mean |γ|": "" if result.gamma is None else f"{result.gamma:.4f}",
            "seconds": f"{result.seconds:.1f}"
            + (f" ({result.images_per_second:.0f} images/s)" if result.epochs else ""),
            "kept": result.kept or "the attention alone",
            "folder": str(folder),
        }
    )
