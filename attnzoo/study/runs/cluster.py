"""The engine of `--engine ray`: runs as tasks on a Ray cluster, in the study's own folder."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch

from attnzoo.errors import StudyError
from attnzoo.study.runs.attempt import Job, Outcome, attempt
from attnzoo.study.runs.conduct import Report
from attnzoo.study.runs.relay import Event, Relay, retell
from attnzoo.train import Watch, require

__all__ = ["RayCluster"]

RETRIES = 3  # of a task whose node or process is lost; the run then goes on where it was
LISTEN_EVERY = 0.5  # seconds
AT_ONCE = 1000  # tasks handed over: Ray runs as many as the cluster has room for
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # tell nobody
    # Ray would hide the GPUs from tasks that ask for none, with a warning that it will stop to.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayCluster:
    """Does runs as tasks of a Ray cluster; the study's folder must be there on all its nodes.

    Args:
        address: of the cluster, or `"auto"`; without it what `RAY_ADDRESS` says, and without
            that a cluster is started on this machine.
        threads: CPUs that a task asks for, and threads that it computes with.
        watch_of: gives the watch of a run.
        workers: tasks at a time at most; without it as many as there is room for.

    Raises:
        MissingExtraError: Ray is not installed.
        StudyError: no cluster is there, or none of its nodes has so many CPUs.
    """

    def __init__(
        self,
        address: str | None,
        threads: int,
        watch_of: Callable[[Job], Watch],
        workers: int | None = None,
    ) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        self.ray: Any = require("ray", "Ray", extra="ray")
        self.slots = workers or AT_ONCE
        self.threads = threads
        self.watch_of = watch_of
        self.running: dict[Any, tuple[Job, Watch]] = {}
        self.ours = not self.ray.is_initialized()
        self.on_sigterm = signal.getsignal(signal.SIGTERM)  # Ray puts its own there
        if self.ours:
            self._connect(address)
        try:
            self.task, self.inbox = self._prepare(threads)
        except BaseException:
            self._leave()
            raise

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs, after the step in progress."""
        try:
            for ref in self.running:
                self.ray.cancel(ref, force=False)
            if self.running:
                self.ray.wait(list(self.running), num_returns=len(self.running))
        finally:  # asked again to stop
            self._leave()

    def start(self, job: Job) -> None:
        ref = self.task.remote(job, self.inbox, self.threads, sys.path)
        self.running[ref] = job, self.watch_of(job)

    def wait(self, seconds: float | None) -> list[Report]:
        reports: list[Report] = []
        left = seconds
        while not reports and (left is None or left > 0):
            done, _ = self.ray.wait(
                list(self.running), num_returns=1, timeout=min(LISTEN_EVERY, left or LISTEN_EVERY)
            )
            self._listen()
            reports = [self._report(ref) for ref in done]
            left = None if left is None else left - LISTEN_EVERY
        return reports

    def _report(self, ref: Any) -> Report:
        try:
            outcome, how = self.ray.get(ref), ""
        except self.ray.exceptions.RayError as error:
            outcome, how = Outcome.DIED, f"its task was lost ({type(error).__name__})\n{error}"
        job, _ = self.running.pop(ref)
        return job, outcome, how

    def _listen(self) -> None:
        watches = {job.run.id: watch for job, watch in self.running.values()}
        try:
            events = self.ray.get(self.inbox.take.remote())
        except self.ray.exceptions.RayActorError:
            return  # it is out of reach, or starts again: what was told is lost, no run is
        for name, event in events:
            if name in watches:
                retell(event, watches[name])

    def _connect(self, address: str | None) -> None:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        address = address or os.environ.get("RAY_ADDRESS")
        try:
            if address is None:
                self.ray.init(address="local", include_dashboard=False, **quiet)
            else:
                self.ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = "on this machine" if address is None else f"at {address!r}"
            raise StudyError(
                f"no Ray cluster can be used {where}: {str(error).strip() or type(error).__name__}"
            ) from error

    def _prepare(self, threads: int) -> tuple[Any, Any]:
        ray = self.ray
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        most = int(max(node.get("CPU", 0) for node in nodes))
        if threads > most:
            raise StudyError(
                f"a run asks for {threads} CPUs, and no node of the Ray cluster has more than "
                f"{most}. Lower --threads."
            )
        gpus = 1 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0
        task = ray.remote(
            num_cpus=threads, num_gpus=gpus, max_retries=RETRIES, scheduling_strategy="SPREAD"
        )(_do)
        # Beside the driver: where this node is lost, so is the driver.
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(),
            soft=False,  # soft goes elsewhere at times
        )
        inbox = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(_Inbox)
        return task, inbox.remote()

    def _leave(self) -> None:
        if self.ours:
            self.ray.shutdown()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, self.on_sigterm)


def _do(job: Job, inbox: Any, threads: int, path: list[str]) -> Outcome:
    """The task. A backbone of one's own is found where the driver finds it."""
    sys.path += [entry for entry in path if entry not in sys.path]
    torch.set_num_threads(threads)
    name = job.run.id
    last = None

    def send(event: Event) -> None:
        nonlocal last
        last = inbox.put.remote(name, event)

    outcome = attempt(job, Relay(send))
    if last is not None:
        require("ray", "Ray", extra="ray").wait([last])  # the end is told before the task ends
    return outcome


class _Inbox:
    """Where tasks leave what they have to tell."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Event]] = []

    def put(self, name: str, event: Event) -> None:
        self.events.append((name, event))

    def take(self) -> list[tuple[str, Event]]:
        events, self.events = self.events, []
        return events
