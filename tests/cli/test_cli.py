"""The command line as a whole: help, refusals, exit codes, and how it is started."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from commands import VGG

from attnzoo.cli import app as cli
from attnzoo.cli import main, network
from attnzoo.errors import AttnzooError

pytestmark = pytest.mark.usefixtures("wide_terminal")


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


def test_sigterm_while_it_starts_leaves_a_word():
    """As the system ends a program, so that whoever started it sees which signal it was."""
    code = (
        "import os, signal, sys; sys.argv = ['attnzoo', 'policies', '--json']\n"
        "import attnzoo.cli.app as cli\n"
        "cli._leave_threads = lambda code: os.kill(os.getpid(), signal.SIGTERM)\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-15, "error: interrupted by SIGTERM.\n")


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


def test_the_module_hands_its_exit_code_on(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["attnzoo", "nonsense"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("attnzoo", run_name="__main__")
    assert ended.value.code == 2
