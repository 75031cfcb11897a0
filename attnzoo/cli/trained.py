"""`attnzoo evaluate`, `predict`, `maps`, `export`, `share`: a trained network, used."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from attnzoo.checks import counted
from attnzoo.cli.console import progress_console, result_console, show_json, show_table, working
from attnzoo.cli.options import Json, UsageError, given_path, parse_options
from attnzoo.errors import DataError, OptionError

__all__ = ["evaluate", "export", "maps", "predict", "share"]

WORK = Group("Work", sort_key=4)
CLASSES_SHOWN = 40

Run = Annotated[
    Path,
    Parameter(
        metavar="RUN", help="Folder of a run that kept its network, or its `network.safetensors`."
    ),
]
Pictures = Annotated[
    Path,
    Parameter(metavar="PICTURES", help="Pictures, or folders of pictures."),
]
Batch = Annotated[int, Parameter(help="Images that it sees at once.", group=WORK)]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    Parameter(help="Where it computes; `auto` takes the accelerator there is.", group=WORK),
]


def evaluate(
    run: Run,
    /,
    *,
    data: Annotated[
        Path | None,
        Parameter(
            metavar="FOLDER",
            help="Another folder of images than the run's, with the same classes.",
        ),
    ] = None,
    data_option: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="NAME=VALUE",
            help="An option of the data, such as `test_split=val` or `size=256`.",
            show_default=False,
        ),
    ] = (),
    batch_size: Batch = 64,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Test a trained network, class by class."""
    changed = parse_options("--data-option", data_option)
    with working("Testing"):
        from attnzoo.trained import evaluate as test
        from attnzoo.trained import open_network

        network = open_network(run)
        images = _test_data(network, data, changed)
        for line in [] if data or changed else _changed(network, images):
            progress_console().print(line, soft_wrap=True)
        found = test(network, images, batch_size=batch_size, device=device)
    if json:
        show_json(found.to_dict())
        return
    rows = [
        [name, str(int(count)), _percent(recall), _percent(precision)]
        for name, count, recall, precision in zip(
            found.classes, found.confusion.sum(1), found.recall, found.precision, strict=True
        )
    ]
    total = ["all", str(found.images), _percent(found.top1), ""]
    columns = {"class": "fold", "images": "right", "recall": "right", "precision": "right"}
    show_table(f"{run}", columns, rows[:CLASSES_SHOWN], total)
    if len(rows) > CLASSES_SHOWN:
        print(f"{len(rows) - CLASSES_SHOWN} more classes: --json shows all.")
    top5 = "" if found.top5 is None else f", top-5 {_percent(found.top5)}"
    print(
        f"\ntop-1 {_percent(found.top1)}{top5}, balanced {_percent(found.balanced)}, "
        f"loss {found.loss:.3f}; always guessing the largest class: {_percent(found.chance)}"
    )


def _test_data(network: Any, folder: Path | None, changed: Mapping[str, Any]) -> Any:
    """The data of the run, with what the flags change; another folder is read as its were."""
    from attnzoo.backbones import InputOptions
    from attnzoo.train import open_data

    known = {**network.recipe.input}
    expected = InputOptions(**{k: _tupled(known[k]) for k in EXPECTED if k in known})
    if folder is not None:
        channels = {"channels": known["channels"]} if "channels" in known else {}
        return open_data({"name": "folder", "root": str(folder), **channels, **changed}, expected)
    if network.run is None:
        raise OptionError(
            "the file does not tell on what it was trained; name a folder of images by --data, or "
            "give the run's folder."
        )
    try:
        return open_data({**network.run.drawn.model_dump(), **changed}, expected)
    except DataError as error:
        raise DataError(f"{error} Where they are elsewhere now, say so by --data.") from error


def _changed(network: Any, images: Any) -> list[str]:
    """What there is to say where the run was not tested on these pictures."""
    from attnzoo.train import changes, data_digest

    full = getattr(network.run.data, "digest", "") == "full"
    known = {key: told for key, told in network.run.digests.items() if key == "data"}
    lines = changes(known, {"data": data_digest(images, full=full)})
    return [f"{line}: the run was trained and tested on others." for line in lines]


EXPECTED = ("size", "mean", "std", "interpolation", "test_crop")


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def predict(
    run: Run,
    /,
    *pictures: Pictures,
    out: Annotated[
        Path | None,
        Parameter(
            metavar="FILE",
            help="A CSV file for the predictions; without it they are printed.",
            converter=given_path,
        ),
    ] = None,
    batch_size: Batch = 64,
    workers: Annotated[
        int, Parameter(help="Processes that read pictures; 0 reads in between.", group=WORK)
    ] = 0,
    device: Device = "auto",
) -> None:
    """Say what is on pictures, by a trained network."""
    with redirect_stdout(sys.stderr):
        from attnzoo.trained import find_pictures, open_network, write_predictions
        from attnzoo.trained import predict as say

        found = find_pictures(_some(pictures))
        if out is not None and out.is_dir():
            raise UsageError(f"--out {out} is a folder; name a CSV file.")
        network = open_network(run)
        said = say(network, found, batch_size=batch_size, workers=workers, device=device)
        rows = list(said) if out is None else []
        count = 0 if out is None else write_predictions(said, network.classes, out)
    if out is not None:
        result_console().print(f"{counted(count, 'picture')}: {out}", soft_wrap=True)
        return
    show_table(
        f"{run}",
        {"picture": "fold", "label": "left", "probability": "right"},
        [[row.picture, row.label, f"{row.probability:.3f}"] for row in rows],
    )


def maps(
    run: Run,
    /,
    *pictures: Pictures,
    out: Annotated[
        Path, Parameter(metavar="DIR", help="A folder for the overlays.", converter=given_path)
    ] = Path("maps"),
) -> None:
    """Show what a network's attention looks at, on pictures."""
    with working("Looking"):
        from attnzoo.trained import find_pictures, open_network, write_maps

        found = find_pictures(_some(pictures))
        sheet, *overlays = write_maps(open_network(run), found, out)
    result_console().print(
        f"{counted(len(overlays), 'overlay')}: {out}\nAll at once: {sheet}", soft_wrap=True
    )


def export(
    run: Run,
    /,
    *,
    format: Annotated[
        Literal["onnx", "pt2", "torchscript", "openvino", "executorch", "litert", "coreml", "ncnn"],
        Parameter(
            help="ONNX, `torch.export`'s, traced TorchScript; with an extra of the same name, one "
            "of the others."
        ),
    ] = "onnx",
    out: Annotated[
        Path | None,
        Parameter(
            metavar="FILE",
            help="By default `network` with the format's suffix, in the run.",
            converter=given_path,
        ),
    ] = None,
    legacy: Annotated[
        bool,
        Parameter(
            negative=(), help="ONNX by the exporter before `torch.export`, for tools that need it."
        ),
    ] = False,
) -> None:
    """Write a trained network for other programs, checked beside the model."""
    if legacy and format != "onnx":
        raise UsageError("--legacy is for --format onnx.")
    with working("Exporting"):
        from attnzoo.deploy import SUFFIXES
        from attnzoo.trained import export as write
        from attnzoo.trained import open_network

        folder = run if run.is_dir() else run.parent
        path = out or folder / f"network{SUFFIXES[format]}"
        done = write(open_network(run), path, format, legacy=legacy)
    free = " and ".join(done.free) if done.free else "nothing"
    tried = ", ".join("×".join(map(str, shape)) for shape in done.tried)
    checked = (
        "It can't be run on this machine, and was not."
        if done.difference is None
        else f"Beside the model on {tried}: scores differ by {done.difference:.1e} of the largest."
    )
    result_console().print(
        f"{done.format}: {done.path}\nFree: {free}. {checked}",
        soft_wrap=True,
    )


def share(
    run: Run,
    folder: Annotated[
        Path,
        Parameter(metavar="FOLDER", help="Made if it is not there.", converter=given_path),
    ],
    /,
    *,
    name: Annotated[
        str | None,
        Parameter(metavar="NAME", help="Title of the card; by default the repository or folder."),
    ] = None,
    license: Annotated[
        str | None,
        Parameter(metavar="ID", help="Licence, such as `mit` or `apache-2.0`."),
    ] = None,
    push: Annotated[
        str | None,
        Parameter(metavar="USER/NAME", help="A repository to upload the folder to."),
    ] = None,
    private: Annotated[
        bool, Parameter(negative=(), help="A repository that is made is private.")
    ] = False,
) -> None:
    """Write a trained network as a folder for others, with a model card."""
    if private and push is None:
        raise UsageError("--private is for --push.")
    with working("Writing"):
        from attnzoo.sharing import push_to_hub
        from attnzoo.trained import share as write

        write(run, folder, name=name or push, license=license)
        address = None if push is None else push_to_hub(folder, push, private=private)
    result_console().print(f"Shared: {folder}", soft_wrap=True)
    if address is not None:
        result_console().print(f"Uploaded: {address}", soft_wrap=True)


def _some(pictures: tuple[Path, ...]) -> tuple[Path, ...]:
    if not pictures:
        raise UsageError("name PICTURES, or folders of pictures, after the run.")
    return pictures


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"
