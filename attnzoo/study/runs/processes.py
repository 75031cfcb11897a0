"""The engine of `--workers N`: processes of this machine, each doing whole runs."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, reduction
from multiprocessing.connection import Connection
from typing import IO, Any

import torch

from attnzoo.study.runs.attempt import Job, Outcome, attempt
from attnzoo.study.runs.conduct import Report
from attnzoo.study.runs.relay import Relay, retell
from attnzoo.train import Watch

__all__ = ["Processes", "shares_of_gpus"]

GRACE = 10.0  # seconds for what a network's own threads have to do once the runs are done
TAIL = 20_000  # characters of what a process printed last that go to the log of the run it left


class Processes:
    """Does runs in processes of their own, which it starts when there is work for them.

    A process takes one run after another. When this one dies or is interrupted, they end too.

    Args:
        workers: how many.
        threads: of each, for computing.
        watch_of: gives the watch of a run.
        gpus: what each worker is to see as `CUDA_VISIBLE_DEVICES`; all of them without it.
    """

    def __init__(
        self,
        workers: int,
        threads: int,
        watch_of: Callable[[Job], Watch],
        gpus: Sequence[str] = (),
    ) -> None:
        self.slots = workers
        self.threads = threads
        self.watch_of = watch_of
        self.free = [gpus[index % len(gpus)] if gpus else None for index in range(workers)]
        self.workers: list[_Worker] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        """End them: the idle at once, those at work after the step in progress."""
        try:
            for worker in self.workers:
                worker.dismiss()
            for worker in self.workers:
                worker.process.join()
        finally:  # asked again to stop
            for worker in self.workers:
                worker.process.kill()
                worker.process.join()
            self.workers.clear()

    def start(self, job: Job) -> None:
        idle = next((worker for worker in self.workers if worker.job is None), None)
        if idle is None:
            idle = _Worker(self.threads, self.free.pop(0))
            self.workers.append(idle)
        idle.take(job, self.watch_of(job))

    def wait(self, seconds: float | None) -> list[Report]:
        reports: list[Report] = []
        while not reports:
            busy = [worker for worker in self.workers if worker.job is not None]
            ready = connection.wait([worker.pipe for worker in busy], seconds)
            for worker in busy:
                if worker.pipe not in ready:
                    continue
                report = worker.hear()
                if report is not None:
                    reports.append(report)
                if worker.gone:
                    self.workers.remove(worker)
                    self.free.append(worker.gpu)
            if not ready:
                break
        return reports


class _Worker:
    """One process, as seen from the one that started it."""

    def __init__(self, threads: int, gpu: str | None) -> None:
        self.gpu = gpu
        self.job: Job | None = None
        self.watch = Watch()
        self.gone = False
        # It has no name, so nothing of it can be left over; it is closed with this object.
        self.output = tempfile.TemporaryFile()  # noqa: SIM115
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(other, _Inherited(self.output), threads, gpu), name="attnzoo-worker"
        )
        # Ctrl-C in a terminal reaches all processes; only the first is to decide what that means.
        with _blocked(signal.SIGINT):
            self.process.start()
        other.close()

    def take(self, job: Job, watch: Watch) -> None:
        self.job, self.watch = job, watch
        with suppress(BrokenPipeError):  # it has died: `hear` will tell
            self.pipe.send(job)

    def hear(self) -> Report | None:
        """Pass on what it tells; the end of its run is the report."""
        job = self.job
        assert job is not None
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.gone = True
            self.process.join()
            return job, Outcome.DIED, self._last_words()
        if isinstance(message, Outcome):
            self.job = None
            return job, message, ""
        retell(message, self.watch)
        return None

    def dismiss(self) -> None:
        self.pipe.close()
        if self.job is not None:
            self.process.terminate()

    def _last_words(self) -> str:
        code = self.process.exitcode or 0
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            how = f"its process was ended by {name}{hint}"
        else:
            how = f"its process ended with exit code {code}"
        self.output.seek(0)
        return f"{how}\n{self.output.read().decode(errors='replace')[-TAIL:]}"


class _Inherited:
    """An open file that a spawned process gets; unpickled, it is a file descriptor."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return _detach, (reduction.DupFd(self.file.fileno()),)


def _detach(handle: Any) -> int:
    return handle.detach()


@contextmanager
def _blocked(number: signal.Signals) -> Generator[None]:
    """Hold a signal back; a process that is started inside never gets it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, output: int, threads: int, gpu: str | None) -> None:
    """What a worker does: run after run, until nobody sends any."""
    # The driver's terminal shows bars; what is printed here is read only if this process dies.
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.enable(2)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    torch.set_num_threads(threads)

    def send(message: Any) -> None:
        with suppress(OSError):  # nobody listens any more: a signal will say when to stop
            pipe.send(message)

    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            send(attempt(pipe.recv(), Relay(send)))
    # A network may have started threads that never end, which Python would wait for.
    end = threading.Timer(GRACE, os._exit, [0])
    end.daemon = True
    end.start()


def _end_with_parent() -> None:
    """The driver may be killed; then finish the step, as if it had said so."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def shares_of_gpus(workers: int) -> list[str]:
    """What each of several workers is to see of this machine's GPUs: one, in turn; none is []."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return [names[index % len(names)] for index in range(workers)] if names else []
