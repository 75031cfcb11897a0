"""The commands, and what every run of one comes to: an exit code and plain words for errors."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

from cyclopts import App, CycloptsError, Group, Parameter

from attnzoo.cli.console import is_first_process, say_error
from attnzoo.cli.options import UsageError
from attnzoo.errors import AttnzooError

__all__ = ["app", "main"]

FINISHED, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
UNEXPECTED = "unexpected:"
GRACE = 10.0  # seconds for what threads of a network's have to do at the end


def _version() -> str:
    try:
        return f"attnzoo {version('attnzoo')}"
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "attnzoo (not installed)"


def _examples(*lines: str) -> str:
    listed = "\n".join(lines)
    return f"Examples:\n\n```console\n{listed}\n```"


app = App(
    name="attnzoo",
    version=_version,
    help="Put attention blocks into any CNN, see what that costs, and find out whether it helps.",
    help_epilogue=_examples(
        "attnzoo plan torchvision/vgg16 --policy pre-pool --block local",
        "attnzoo cost timm/resnet50 --policy in-residual --block cbam",
        "attnzoo ablate examples/studies/quickstart.yaml",
    )
    + "\n\n`attnzoo COMMAND --help` explains a command.",
    help_format="markdown",
    default_parameter=Parameter(negative=()),
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
)
LOOK = Group("Look", sort_key=1)
TRAIN = Group("Train and compare (needs the extra 'study')", sort_key=2)
USE = Group("Use a trained network (needs the extra 'study')", sort_key=3)
OTHER = Group("Other", sort_key=9)
app["--help"].group = OTHER
app["--version"].group = OTHER

app.command(
    "attnzoo.cli.blocks:blocks",
    group=LOOK,
    sort_key=1,
    help="""List the attention blocks, or explain or check one.

    Parameters and MACs are those of one block with its default options on a map of 256 channels,
    56 × 56. MACs count convolutions and matrix products, not element-wise operations.

    `--check` is for whoever writes a block: shapes, gradients, precision, maps, options, copies,
    compile, export, and whatever else every block keeps, but for the limits that it declares.""",
    help_epilogue=_examples(
        "attnzoo blocks",
        "attnzoo blocks 'c*'",
        "attnzoo blocks cbam",
        "attnzoo blocks cbam --check --option reduction=8",
    ),
)
app.command(
    "attnzoo.cli.policies:policies",
    group=LOOK,
    sort_key=2,
    help="""List the policies, which say where attention goes, or explain or check one.

    `--check` is for whoever writes a policy: its places, its filters, and surgery there.""",
    help_epilogue=_examples(
        "attnzoo policies",
        "attnzoo policies in-residual",
        "attnzoo policies in-residual --check --backbone torchvision/resnet18",
    ),
)
app.command(
    "attnzoo.cli.plan:plan",
    group=LOOK,
    sort_key=3,
    help="""Show where a policy puts attention into a network, and how.

    The network is built without memory and followed through one forward pass without arithmetic.
    Each site is a row: the mechanism is how the block gets there; parameters, MACs and bytes of
    activations (MB, float32, for one image) are what it adds.""",
    help_epilogue=_examples(
        "attnzoo plan torchvision/vgg16 --block se",
        "attnzoo plan timm/resnet50 --policy in-residual --policy-option stages=4,5",
        "attnzoo plan torchvision/densenet121 --block cbam --option reduction=8 --json",
        "attnzoo plan mynets:small --backbone-option width=32 --input-size 1x64x64",
    ),
)
app.command(
    "attnzoo.cli.cost:cost",
    group=LOOK,
    sort_key=4,
    help="""Show what a network costs before and after attention is put in.

    Parameters, multiply-accumulate operations (MACs) and bytes of activations (float32) of one
    forward pass of one image, for the whole and for each site.""",
    help_epilogue=_examples(
        "attnzoo cost torchvision/vgg16 --policy pre-pool --block local",
        "attnzoo cost timm/efficientnet_b0 --block eca --input-size 3x320x320",
        "attnzoo cost torchvision/resnet18 --json",
    ),
)
app.command(
    "attnzoo.cli.train:train",
    group=TRAIN,
    sort_key=5,
    help="""Train one network on one data set.

    The run's folder, `OUT/<run>`, gets `run.json` (everything the run depends on), `metrics.csv`
    (a line an epoch), `tensorboard/`, `attention.safetensors`, `network.safetensors` (the whole
    network, see `--keep`) and `result.json`. `--config` takes
    a `run.json` or a YAML file of the same keys; flags go before what it says. Interrupted by
    Ctrl-C or SIGTERM, the same command goes on to the same result. On several devices:
    `--devices`, or `torchrun --nproc-per-node N -m attnzoo train …`.""",
    help_epilogue=_examples(
        "attnzoo train torchvision/resnet18 --block cbam --epochs 3",
        "attnzoo train torchvision/resnet18 --plain --epochs 3",
        "attnzoo train timm/resnet50 --weights DEFAULT --data photos/ --freeze backbone",
        "attnzoo train --config runs/<run>/run.json --seed 1",
    ),
)
app.command(
    "attnzoo.cli.study:ablate",
    group=TRAIN,
    sort_key=6,
    help="""Do a study: backbones × attention × seeds, with a table and a report.

    All faults of the file are found before anything is trained. A study that was interrupted goes
    on where it was: runs that are finished are not done again. The same command, started several
    times on one folder, shares the work.""",
    help_epilogue=_examples(
        "attnzoo ablate examples/studies/quickstart.yaml --dry-run",
        "attnzoo ablate examples/studies/quickstart.yaml --out runs/first --workers 4",
        "attnzoo ablate study.yaml --engine ray --address auto",
    ),
)
app.command(
    "attnzoo.cli.study:report",
    usage="Usage: attnzoo report FOLDER [OTHERS…] [OPTIONS]",
    group=TRAIN,
    sort_key=7,
    help="""Write a study's report and tables anew from its folder, or compare several.

    A comparison of studies shows what differs between them, their results side by side, and the
    runs that are alike but for the seed pooled. Runs of `attnzoo train`, or folders of them, are
    shown side by side with the settings in which they differ.""",
    help_epilogue=_examples(
        "attnzoo report runs/quickstart",
        "attnzoo report runs/first runs/second --out runs/both",
        "attnzoo report runs/<run> runs/<other-run>",
    ),
)
app.command(
    "attnzoo.cli.trained:evaluate",
    group=USE,
    sort_key=8,
    help="""Test the network that a run kept: top-1, balanced accuracy, and each class.

    On the test images of the run, or on another folder with the same classes. Recall is the share
    of a class's images that were taken for it, precision the share of those taken for it that are
    of it; balanced accuracy is the mean recall.""",
    help_epilogue=_examples(
        "attnzoo evaluate runs/<run>",
        "attnzoo evaluate runs/<run> --data photos/ --json",
    ),
)
app.command(
    "attnzoo.cli.trained:predict",
    usage="Usage: attnzoo predict RUN PICTURES… [OPTIONS]",
    group=USE,
    sort_key=9,
    help="""Say what is on pictures, by the network that a run kept.

    They are prepared as its test images were. The CSV file has a row a picture: its label, that
    label's probability, and the probability of every class.""",
    help_epilogue=_examples("attnzoo predict runs/<run> photos/ --out predictions.csv"),
)
app.command(
    "attnzoo.cli.trained:maps",
    usage="Usage: attnzoo maps RUN PICTURES… [OPTIONS]",
    group=USE,
    sort_key=10,
    help="""Show what the attention of a run's network looks at, on pictures.

    Writes an overlay for each picture and each place of attention, at the picture's own size, and
    `contact_sheet.png` with all of them.""",
    help_epilogue=_examples("attnzoo maps runs/<run> cat.jpg dog.jpg --out maps/"),
)
app.command(
    "attnzoo.cli.trained:export",
    group=USE,
    sort_key=11,
    help="""Write the network that a run kept as a file that other programs run.

    Batch and size are left free where the network and the format allow. The file is then run
    beside the model, and what was checked is written to a `.json` beside it. ONNX needs the extra
    'export', OpenVINO, ExecuTorch, LiteRT, Core ML and ncnn an extra of the format's name.""",
    help_epilogue=_examples("attnzoo export runs/<run> --format onnx --out net.onnx"),
)
app.command(
    "attnzoo.cli.trained:share",
    usage="Usage: attnzoo share RUN FOLDER [OPTIONS]",
    group=USE,
    sort_key=12,
    help="""Write the network that a run kept as a folder for others, with a model card.

    The folder holds `network.safetensors`, with weights and recipe, and `README.md`: places, cost,
    results, licence, and how to load it, by `attnzoo.from_pretrained`. `--push` uploads it to a
    repository of the Hugging Face Hub, under the account of `hf auth login`.""",
    help_epilogue=_examples(
        "attnzoo share runs/<run> shared --license mit",
        "attnzoo share runs/<run> shared --push user/name --private",
    ),
)
app.command(
    "attnzoo.cli.sweep:sweep",
    group=OTHER,
    sort_key=13,
    help="""Try every policy on every convolutional network of torchvision and timm.

    A row for each: are there places; are the outputs unchanged, bit for bit; does each block run
    once; does each of its parameters get a gradient; does unwrap restore everything. Large
    networks are looked at on meta tensors, without numbers.""",
    help_epilogue=_examples(
        "attnzoo sweep 'torchvision/resnet*' --policy post-residual",
        "attnzoo sweep --out docs/data/coverage.csv",
    ),
)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[
        bool,
        Parameter(
            help="Show where in the code an error comes from.",
            group=OTHER,
            env_var="ATTNZOO_DEBUG",
            show_default=False,
        ),
    ] = False,
) -> int:
    """Run a command; its exit code."""
    try:
        app(tokens)
    except (CycloptsError, UsageError) as error:
        command = " ".join(["attnzoo", *(token for token in tokens[:1] if token in app)])
        say_error(str(error), hint=f"See: {command} --help")
        return MISUSED
    except AttnzooError as error:
        if debug:
            raise
        say_error(str(error))
        return FAILED
    except OSError as error:  # no room, no permission, a name that the system does not take
        if debug or isinstance(error, BrokenPipeError):
            raise
        say_error(f"the system refuses: {error}")
        return FAILED
    except (Exception, SystemExit) as error:
        if debug:
            raise
        say_error(
            f"{UNEXPECTED} {_told(error)}",
            hint="With --debug, before the command, the traceback is shown. Where it does not come "
            "from a module of yours, this is a fault of attnzoo; please report it.",
        )
        return FAILED
    except KeyboardInterrupt as error:
        if is_first_process():
            say_error(" ".join(["interrupted.", *error.args]))
        return getattr(error, "exit_code", INTERRUPTED)
    return FINISHED


def _told(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"something ended the program, by sys.exit({error.code!r})"
    return f"{type(error).__name__}: {error}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 1: it cannot be done, and stderr says why. 2: the command is wrong. 130: interrupted
    by Ctrl-C. 143: by SIGTERM.
    """
    if "" not in sys.path:
        sys.path.append("")  # the module of `package.module:function` may be in this folder
    if arguments is None and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app.meta(sys.argv[1:] if arguments is None else list(arguments)) or FINISHED
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has gone. Python must not try again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    if arguments is None:
        _leave_threads(code)
    return code


def _terminate(number: int, _: object) -> None:
    """SIGTERM ends a command at once, as ever, but not without a word.

    Trainings and studies, which end their step first, have handlers of their own. Nothing is
    raised here: it would come out of the middle of torch's import, as something else.
    """
    if is_first_process():
        os.write(2, b"error: interrupted by SIGTERM.\n")
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _leave_threads(code: int) -> None:
    """End the process where threads that a network has started would keep it for ever."""
    ends = time.monotonic() + GRACE
    others = [
        thread
        for thread in threading.enumerate()
        if thread is not threading.current_thread() and not thread.daemon
    ]
    for thread in others:
        thread.join(max(0.0, ends - time.monotonic()))
    left = [thread.name for thread in others if thread.is_alive()]
    if left:
        say_error(f"threads still run that attnzoo did not start, and are left: {', '.join(left)}.")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
