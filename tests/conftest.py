"""What every test needs: one thread a worker, the same examples from hypothesis on every run."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from importlib import import_module

import hypothesis
import pytest
import torch

# Read when Triton is imported, which torchvision does. Nothing else in the tests uses Triton
# where there is no GPU.
os.environ.setdefault("TRITON_INTERPRET", str(int(not torch.cuda.is_available())))

with contextlib.suppress(ImportError):  # here, so that what is run on import is measured
    for launch in ("launch", "launch_energy", "launch_gates"):
        import_module(f"attnzoo.kernels.{launch}")

from patches import draw_large_weights_quickly, others_left_alone, triton_prepared_once

from attnzoo.kernels import dispatch
from attnzoo.registry import BLOCKS, POLICIES

# Read by glibc when a worker of pytest-xdist begins, and the processes that it starts: freed memory
# stays with the process. Else much of it goes back to the system and is asked for again, page by
# page, at every network that is built and every map that is computed.
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**31 - 1))
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**25))

draw_large_weights_quickly()

# The workers of pytest-xdist share the cores; more threads than cores only wait for each other.
# So do those of the processes that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where the tests are started in the background Ctrl-C is ignored, and the training honours that;
# some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# On import ultralytics writes settings; later it looks for updates and installs packages.
_YOLO = tempfile.TemporaryDirectory(prefix="attnzoo-")
os.environ |= {
    "YOLO_CONFIG_DIR": _YOLO.name,
    "YOLO_OFFLINE": "1",
    "YOLO_AUTOINSTALL": "0",
    "YOLO_VERBOSE": "0",
}

# Building a model can take longer than hypothesis's deadline for one example, on a busy machine.
# A run that draws other examples than the last one would fail for reasons nobody can repeat.
hypothesis.settings.register_profile("attnzoo", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("attnzoo")


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: one more than there are cores, since some tests wait for other processes."""
    return min(os.cpu_count() or 1, 8) + 1


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Let the marker `no_cover` have its effect in the workers of pytest-xdist, too.

    There pytest-cov measures twice: from the start, before it knows that it is in a worker, and
    again as one. For `no_cover` it stops the second.
    """
    tracer = sys.gettrace() if item.get_closest_marker("no_cover") else None
    if type(tracer).__module__.partition(".")[0] != "coverage":  # none, or a debugger
        return (yield)
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


@pytest.fixture(autouse=True)
def _same_random_state() -> Iterator[None]:
    """Start each test from the same random state, whatever ran before it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def _same_libraries() -> Iterator[None]:
    """The snippets of a page may import ultralytics."""
    with others_left_alone():
        yield


@pytest.fixture
def registries() -> Iterator[None]:
    """Take back what a test registers."""
    kept = [(registry, {spec.name: spec for spec in registry}) for registry in (BLOCKS, POLICIES)]
    yield
    for registry, specs in kept:
        registry._specs.clear()
        registry._specs.update(specs)


@pytest.fixture
def kernels_run_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the fused kernels run on the device of the tests: in the interpreter on a CPU."""
    here = "cuda" if torch.cuda.is_available() else "cpu"
    monkeypatch.setattr(dispatch, "DEVICES", {"cuda", here})
    monkeypatch.setattr(dispatch, "ENABLED", True)
    # The formulas that the kernels are compared with keep all of float32.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with triton_prepared_once():
        yield
