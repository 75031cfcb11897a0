"""The commands that look: what they print, where, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import torchvision

import attnzoo
from attnzoo.cli import app as cli
from attnzoo.cli import main, network
from attnzoo.errors import AttnzooError
from attnzoo.policies.selection import FILTERS
from attnzoo.registry import BLOCKS, POLICIES

VGG = "torchvision/vgg11"


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("ATTNZOO_DEBUG", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def run(capsys):
    """Run the command line: `(exit code, stdout, stderr)`."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def ok(run):
    """Run it and see that it goes well; what it prints."""

    def ok(*arguments: str) -> str:
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        return out

    return ok


@pytest.fixture(scope="module")
def vgg11() -> torch.nn.Module:
    """The network by itself, to compare with what the commands say of it."""
    with torch.device("meta"):
        return torchvision.models.vgg11()


def row(table: str, first: str) -> list[str]:
    """The words of the line that starts with these words."""
    words = first.split()
    lines = map(str.split, table.splitlines())
    return next(line for line in lines if line[: len(words)] == words)


# ---- blocks


@pytest.mark.usefixtures("registries")
def test_blocks_lists_every_block_with_what_it_costs(ok):
    out = ok("blocks")
    for spec in BLOCKS:
        assert row(out, spec.name)[:2] == [spec.name, spec.kind]
    # By hand: local on C=256, r=8, 56×56. Channel gate, then spatial gate.
    parameters = (256 * 32 + 32 + 32 * 256 + 256) + (256 * 32 + 32 + 32 + 1)
    macs = 56**2 * (256 * 32 + 32) + 2 * 256 * 32
    assert row(out, "local")[2:4] == [f"{parameters:,}", f"{macs / 1e6:.2f}"]


def test_blocks_takes_a_pattern(ok):
    names = [entry["name"] for entry in json.loads(ok("blocks", "*a*", "--json"))]
    assert names == attnzoo.list_blocks("*a*")
    assert row(ok("blocks", "*a*"), "cbam")
    assert "\nnone" not in ok("blocks", "*a*")


def test_blocks_of_a_name_explains_it(ok):
    out = ok("blocks", "cbam")
    assert "arXiv   1807.06521" in out
    assert "channel_gate (channel), spatial_gate (spatial)" in out
    assert "    spatial = σ(bn(conv_k×k(" in out
    assert row(out, "kernel_size")[1] == "7"
    assert "Raises" not in out
    assert "attnzoo plan torchvision/resnet18 --block cbam --option reduction=16" in out
    assert "limits" not in out
    assert "limits  shapes: C must be even" in ok("blocks", "shuffle")


def test_blocks_as_json_is_a_list_with_everything(ok):
    listed = json.loads(ok("blocks", "--json"))
    assert [entry["name"] for entry in listed] == attnzoo.list_blocks()
    (cbam,) = json.loads(ok("blocks", "cbam", "--json"))
    assert cbam["options"] == {"reduction": 16, "kernel_size": 7}
    assert cbam["limits"] == {}
    assert cbam["maps"] == {"channel_gate": "channel", "spatial_gate": "spatial"}
    assert (cbam["arxiv"], cbam["year"], cbam["required"]) == ("1807.06521", 2018, [])


@pytest.mark.usefixtures("registries")
def test_blocks_that_need_an_option_are_listed_without_a_cost(ok):
    class Needy(torch.nn.Identity):
        def __init__(self, channels: int, width: int) -> None:
            super().__init__()

    attnzoo.register_block("needy", kind="channel")(Needy)
    assert row(ok("blocks"), "needy")[2:] == ["–", "–"]
    assert row(ok("blocks", "needy"), "width")[1] == "(required)"
    (entry,) = json.loads(ok("blocks", "needy", "--json"))
    assert (entry["required"], entry["parameters"], entry["macs"]) == (["width"], None, None)


@pytest.mark.parametrize(
    ("command", "detail"), [("blocks", "Woo, Park"), ("policies", "trunk_only=False")]
)
def test_a_narrow_terminal_leaves_something_to_the_details(ok, monkeypatch, command, detail):
    assert detail in ok(command)
    monkeypatch.setenv("COLUMNS", "80")
    narrow = ok(command)
    assert detail not in narrow
    assert max(map(len, narrow.splitlines())) <= 80


def test_a_pipe_is_wide(ok, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    assert "Woo, Park, Lee, Kweon: CBAM (ECCV 2018)" in ok("blocks")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["blocks", "cbma"], "Did you mean 'cbam'"),
        (["blocks", "zzz*"], "There are: a2, affine"),
        (["policies", "pre-pol"], "Did you mean 'pre-pool'"),
        (["plan", "torchvision/vgg61"], "Did you mean 'torchvision/vgg1"),
        (["plan", "vgg16"], "'torchvision/vgg16'"),
        (["plan", "no.such.module:net"], "no module 'no'"),
        (["plan", VGG, "--policy", "transition"], "Policies that match here: pre-pool (5)"),
        (["plan", VGG, "--policy", "prepool"], "Did you mean 'pre-pool'"),
        (["plan", VGG, "--block", "loca"], "Did you mean 'local'"),
        (["plan", VGG, "--option", "redction=3"], "Did you mean 'reduction'"),
        (["plan", VGG, "--policy-option", "stages=9"], "VGG has no stage 9"),
        (["plan", VGG, "--backbone-option", "clases=3"], "clases"),
        (["plan", VGG, "--input-size", "1x224x224"], "1"),
        (["cost", VGG, "--block", "cbam", "--option", "kernel_size=4"], "an odd integer"),
    ],
)
def test_what_cannot_be_done_is_told_in_plain_words(run, arguments, said):
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plna"], 'Did you mean "plan"'),
        (["plan"], "BACKBONE"),
        (["plan", VGG, "--polcy", "auto"], "Did you mean --policy"),
        (["plan", VGG, "--start", "here"], "identity"),
        (["plan", VGG, "--option", "reduction"], "NAME=VALUE"),
        (["plan", VGG, "--input-size", "3", "4"], "3x224x224"),
        (["plan", "--input-size", "224", VGG], "BACKBONE"),
        (["blocks", "a", "b"], "b"),
        (["train"], "BACKBONE"),
    ],
)
def test_a_wrong_command_exits_with_2_and_says_where_to_look(run, arguments, said):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    command = arguments[0] if arguments[0] != "plna" else ""
    assert f"See: attnzoo {command}".rstrip() + " --help" in err


# ---- policies


def test_policies_lists_every_policy_and_the_filters(ok):
    out = ok("policies")
    for name in (*POLICIES.names(), *FILTERS):
        assert row(out, name)[0] == name


def test_policies_of_a_name_explains_it(ok):
    out = ok("policies", "mbconv")
    assert "squeeze-excite" in out
    assert row(out, "position")[1] == "after"
    assert row(out, "min_channels")
    assert "--policy mbconv" in out
    assert "Options" not in ok("policies", "transition")


def test_policies_as_json(ok):
    told = json.loads(ok("policies", "--json"))
    assert [entry["name"] for entry in told["policies"]] == POLICIES.names()
    assert told["filters"] == FILTERS
    (one,) = json.loads(ok("policies", "*res*l", "--json"))["policies"][:1]
    assert one["name"] == "in-residual"


# ---- plan


def test_plan_is_the_plan(ok, vgg11):
    out = ok("plan", VGG, "--policy", "pre-pool", "--block", "local")
    plan = attnzoo.plan(vgg11, "pre-pool", "local")
    assert out.startswith(f"{VGG}: {plan.recipe}")
    for site in plan.rows:
        cells = row(out, str(site.site).partition(" (")[0])
        assert cells[2:6] == [
            str(site.site.channels),
            f"{site.site.height}×{site.site.width}",
            str(site.site.stage),
            site.mechanism,
        ]
        assert cells[6] == f"{site.parameters:,}"
    assert row(out, "5 sites")[2] == f"{plan.parameters:,}"


def test_plan_as_json_is_the_plan(ok, vgg11):
    told = json.loads(ok("plan", VGG, "--policy", "pre-pool", "--option", "reduction=4", "--json"))
    plan = attnzoo.plan(vgg11, "pre-pool", "local", reduction=4)
    assert told == {"backbone": VGG, **json.loads(plan.to_json())}


def test_plan_takes_every_flag(ok):
    told = json.loads(
        ok(
            *("plan", "timm/resnet18", "--policy", "in-residual", "--policy", "stage-end"),
            *("--policy-option", "stages=3,4", "--block", "se", "--start", "paper"),
            *("--option", "reduction=8", "--input-size", "1", "64", "96"),
            *("--backbone-option", "in_chans=1", "--json"),
        )
    )
    assert told["recipe"] == {
        "policy": [["in-residual", {"stages": [3, 4]}], ["stage-end", {"stages": [3, 4]}]],
        "block": "se",
        "options": {"reduction": 8},
        "start": "paper",
        "input_size": [1, 64, 96],
    }
    assert {(site["height"], site["width"]) for site in told["sites"]} == {(8, 12), (4, 6)}


def test_plan_says_what_was_left_out(ok):
    out = ok("plan", "torchvision/efficientnet_b0", "--policy", "in-residual", "--block", "none")
    assert "left out: features.1.0: this block adds no shortcut" in out


def test_plan_groups_by_part_and_says_why_and_draws(ok, tmp_path):
    network = ("plan", "torchvision/retinanet_resnet50_fpn", "--policy", "stage-end")
    picture = tmp_path / "places.svg"
    out = ok(*network, "--policy", "neck", "--block", "none", "--svg", str(picture))
    assert out.index("\ntrunk") < out.index("\nneck")
    assert "stage-end: after the last feature map of every resolution level" in out
    assert "not seen: head.classification_head.conv: it is called 5 times" in out.replace("\n", " ")
    assert "neck" in picture.read_text("utf-8")


def test_one_site_is_no_plural(ok):
    out = ok("plan", VGG, "--policy", "pre-pool", "--policy-option", "stages=1", "--block", "none")
    assert "1 site " in out


MODULE = """
import torch
from torch import nn

print("imported")

def tiny(width: int = 8):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.MaxPool2d(2))

def computes(width: int = 8):
    model = tiny(width)
    assert model[0].weight.abs().sum().item() > 0, "needs its weights"
    return model

def broken():
    raise RuntimeError("this network cannot be built")
"""


@pytest.fixture
def own_networks(tmp_path, monkeypatch):
    (tmp_path / "networks_of_cli_tests.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield "networks_of_cli_tests"
    sys.modules.pop("networks_of_cli_tests", None)


@pytest.mark.parametrize("function", ["tiny", "computes"])
def test_a_network_of_ones_own_is_found_in_this_folder(run, own_networks, function):
    code, out, err = run(
        "plan", f"{own_networks}:{function}", "--backbone-option", "width=16", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["sites"][0]["channels"] == 16  # so what the module prints is elsewhere
    assert "imported" in err


def test_an_error_in_the_network_itself_keeps_its_traceback(run, own_networks):
    with pytest.raises(RuntimeError, match="cannot be built"):
        run("plan", f"{own_networks}:broken")


def test_networks_are_built_without_memory_where_they_can_be():
    assert {p.device.type for p in network.build("timm/resnet18", {}).parameters()} == {"meta"}


# ---- cost


def test_cost_is_that_of_the_published_network(ok):
    told = json.loads(
        ok("cost", "torchvision/vgg16", "--policy", "pre-pool", "--start", "paper", "--json")
    )
    assert told["before"]["parameters"] == 138_357_544
    assert told["after"]["parameters"] == 138_588_437
    assert round(told["before"]["macs"] / 1e9, 3) == 15.470
    assert round(told["after"]["macs"] / 1e9, 3) == 15.580
    for name, added in told["added"].items():
        assert added == told["after"][name] - told["before"][name]
    assert sum(site["parameters"] for site in told["sites"]) == told["added"]["parameters"]


def test_cost_shows_before_after_and_every_site(ok, vgg11):
    out = ok("cost", VGG, "--policy", "pre-pool", "--block", "affine", "--input-size", "64")
    added = 2 * (64 + 128 + 256 + 512 + 512)
    before = sum(p.numel() for p in vgg11.parameters())
    assert "one image, 3×64×64" in out
    assert row(out, "parameters")[1:] == [
        f"{before:,}",
        f"{before + added:,}",
        f"+{added:,}",
        f"{100 * added / before:+.2f}%",
    ]
    assert row(out, "MACs")[3:] == ["+0", "+0.00%"]
    assert row(out, "features.attn_pre_2")[1:4] == ["affine", "64", "64×64"]


# ---- all of it


def test_help_names_every_command_and_every_command_has_an_example(ok):
    out = ok("--help")
    for name in ("blocks", "policies", "plan", "cost", "train", "ablate", "report"):
        assert f" {name} " in out
        text = ok(name, "--help")
        assert "Examples:" in text
        assert f"attnzoo {name}" in text.partition("Examples:")[2]


def test_help_is_what_comes_without_a_command(ok):
    assert ok() == ok("--help")


def test_every_example_of_the_help_is_understood(ok, monkeypatch):
    """Each line is parsed by the command that it names; nothing is run."""
    for name in ("blocks", "policies", "plan", "cost", "train", "ablate", "report"):
        examples = ok(name, "--help").partition("Examples:")[2].split("attnzoo ")[1:]
        assert examples
        for example in examples:
            _, bound, ignored = cli.app.parse_args(" ".join(example.split()))
            assert bound is not None
            assert not ignored


def test_version(ok):
    assert version("attnzoo") in ok("--version")


def test_version_of_a_checkout(monkeypatch):
    monkeypatch.setattr(cli, "version", lambda name: version("no-such-package"))
    assert cli._version() == "attnzoo (not installed)"


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_debug_shows_the_traceback(how, monkeypatch):
    arguments = ["blocks", "cbma"]
    if how == "flag":
        arguments.append("--debug")
    else:
        monkeypatch.setenv("ATTNZOO_DEBUG", "1")
    with pytest.raises(AttnzooError):
        main(arguments)


def test_ctrl_c_exits_with_130(run, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(network, "build", interrupt)
    assert run("plan", VGG) == (130, "", "error: interrupted.\n")


def test_a_reader_that_goes_away_is_no_traceback(monkeypatch, tmp_path):
    class Gone:
        encoding = "utf-8"

        def __init__(self, file):
            self.fileno = file.fileno
            self.isatty = file.isatty

        def write(self, text):
            return len(text)

        def flush(self):
            raise BrokenPipeError

    with (tmp_path / "stdout").open("w") as file:
        monkeypatch.setattr(sys, "stdout", Gone(file))
        assert main(["policies", "--json"]) == 1


def test_in_a_terminal_progress_is_shown_and_taken_away(run, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich takes the captured streams for a terminal
    monkeypatch.setenv("TERM", "xterm")
    code, out, err = run("plan", VGG, "--json")
    assert code == 0
    assert json.loads(out)["backbone"] == VGG
    assert f"Following {VGG}" in err


def test_python_dash_m_is_the_same():
    command = [sys.executable, "-m", "attnzoo", "policies", "auto", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["policies"][0]["name"] == "auto"


def test_the_console_script_works():
    script = Path(sys.executable).with_name("attnzoo")
    done = subprocess.run([script, "blocks", "se", "--json"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)[0]["name"] == "se"


def test_the_command_line_itself_imports_nothing_heavy():
    """Help and usage errors must not wait for torch, beyond what `import attnzoo` brings."""
    package = Path(attnzoo.__file__).parent
    code = f"""
import sys, types
bare = types.ModuleType("attnzoo")
bare.__path__ = [{str(package)!r}]
sys.modules["attnzoo"] = bare
from attnzoo.cli import main
assert main(["--help"]) == 0 and main(["plan", "--help"]) == 0 and main(["plan"]) == 2
print([name for name in ("torch", "timm", "pydantic", "lightning_fabric") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
