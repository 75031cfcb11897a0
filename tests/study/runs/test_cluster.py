"""`--engine ray`: on a cluster of two nodes, one of which is killed while it works."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from places import ROOT, SUPPORT
from studies import STUDY, numbers
from training import tiny_net

from attnzoo.errors import StudyError
from attnzoo.study import run_study
from attnzoo.study.runs.cluster import SETTINGS
from attnzoo.train import Watch

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
HERE = Path(__file__).parent
#: Ray looks whether a node is alive every so many ms, and gives it up after five times: in 2.5 s,
#: not in 15.
LOOKING = {"RAY_health_check_period_ms": "500", "RAY_health_check_timeout_ms": "2000"}
#: Its workers are of the lowest priority else, and hardly run beside the other tests.
PRIORITY = {"RAY_worker_niceness": "0"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs, so that tasks run on the nodes that are added."""
    path = os.pathsep.join([str(HERE), str(SUPPORT), str(ROOT), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as patch:
        settings = SETTINGS | LOOKING | PRIORITY | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        for name, value in settings.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        yield made
        made.shutdown()


def noting_net(num_classes: int, note: str) -> Any:
    """A network that notes on which node and in which process it is built to be trained."""
    model = tiny_net(num_classes)
    if os.environ.get("RAY_JOB_ID") and model[0].weight.device.type != "meta":
        with Path(note).open("a") as file:
            file.write(f"{ray.get_runtime_context().get_node_id()} {os.getpid()}\n")
    return model


def test_a_node_is_lost_and_no_run(tmp_path: Path, cluster: Any) -> None:
    note = tmp_path / "nodes.txt"
    study = {
        **STUDY,
        "backbones": [{"name": "test_cluster:noting_net", "options": {"note": str(note)}}],
        # So many that a run is still going on when word of its first epoch has come.
        "train": {**STUDY["train"], "epochs": 60},
    }
    run_study(study, tmp_path / "alone", threads=1, watch=Watch())
    # Before there are others, so that this process hangs on the head.
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    begun: list[str] = []
    lost: list[str] = []
    ended: list[str] = []

    class Killing(Watch):
        """As soon as two runs have begun, the node of the second goes."""

        def begin(self, name: str, steps: int) -> None:
            begun.append(name)

        def epoch(self, row: dict[str, Any]) -> None:
            if not lost and len(begun) == 2:
                name, process = note.read_text().split()[-2:]
                lost.append(name)
                (node,) = [node for node in nodes if node.node_id == name]
                cluster.remove_node(node, allow_graceful=False)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)  # which a lost machine takes with it

        def end(self, line: str) -> None:
            ended.append(line)

    outcome = run_study(
        study, tmp_path / "ray", engine="ray", address=cluster.address, watch=Killing()
    )
    ray.shutdown()
    assert lost
    assert (outcome.repeated, outcome.failures) == (4, [])
    assert len(ended) == 4
    assert len(begun) == 5  # the run on the lost node, on the other one again
    assert len(set(begun)) == 4
    assert lost[0] != note.read_text().split()[-2]
    assert numbers(tmp_path / "ray") == numbers(tmp_path / "alone")
    assert not list((tmp_path / "ray" / "runs").glob(".*"))


def test_an_interrupt_ends_the_tasks_after_a_step(tmp_path: Path, cluster: Any) -> None:
    cluster.add_node(num_cpus=1)
    longer = {**STUDY, "train": {**STUDY["train"], "epochs": 3000}, "seeds": [0]}

    class Impatient(Watch):
        def epoch(self, row: dict[str, Any]) -> None:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        run_study(
            longer, tmp_path, engine="ray", address=cluster.address, workers=1, watch=Impatient()
        )
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is before
    (kept,) = (tmp_path / "runs").glob(".*.partial")
    assert "interrupted" in (kept / "log.txt").read_text()
    assert (kept / "checkpoint.pt").exists()


def test_more_threads_than_a_node_has(tmp_path: Path, cluster: Any) -> None:
    with pytest.raises(StudyError, match="asks for 99 CPUs, and no node of the Ray cluster"):
        run_study(STUDY, tmp_path, engine="ray", address=cluster.address, threads=99, watch=Watch())


def test_no_cluster_there(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(StudyError, match=r"no Ray cluster can be used at 'ray-of-light'"):
        run_study(STUDY, tmp_path, engine="ray", address="ray-of-light", watch=Watch())
    assert time.monotonic() - began < 60
