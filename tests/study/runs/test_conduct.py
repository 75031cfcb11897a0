"""Who does which run: with engines that only pretend."""

from __future__ import annotations

from collections import deque
from importlib import import_module
from pathlib import Path

import pytest

from attnzoo.study.runs.attempt import Job, Outcome
from attnzoo.study.runs.conduct import conduct
from attnzoo.study.runs.failures import note_failure, read_failure
from attnzoo.train import RunSpec, TrainRecipe
from attnzoo.train.claim import claimed

module = import_module("attnzoo.study.runs.conduct")  # not the function of this name

DONE, FOUND, BUSY = Outcome.DONE, Outcome.FOUND, Outcome.BUSY
FAILED, DIED = Outcome.FAILED, Outcome.DIED


class Script:
    """An engine to which happens what is written for each seed."""

    def __init__(self, slots: int = 1, **outcomes: list[Outcome]) -> None:
        self.slots = slots
        self.outcomes = {int(name[1:]): list(list_) for name, list_ in outcomes.items()}
        self.running: deque[Job] = deque()
        self.started: list[int] = []
        self.most = 0

    def start(self, job: Job) -> None:
        self.started.append(job.run.train.seed)
        self.running.append(job)
        self.most = max(self.most, len(self.running))

    def wait(self, seconds: float | None) -> list[tuple[Job, Outcome, str]]:
        job = self.running.popleft()
        outcome = self.outcomes[job.run.train.seed].pop(0)
        return [(job, outcome, "killed\nlast words" if outcome is DIED else "")]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.01)


def jobs(folder: Path, count: int) -> list[Job]:
    runs = [
        RunSpec(backbone="x", data={"name": "cluttered-digits"}, train=TrainRecipe(seed=s))
        for s in range(count)
    ]
    return [Job(run, folder / run.id, folder) for run in runs]


def outcomes(folder: Path, engine: Script, count: int) -> dict[int, Outcome]:
    told: dict[int, Outcome] = {}

    def tell(job: Job, outcome: Outcome) -> None:
        assert job.run.train.seed not in told
        told[job.run.train.seed] = outcome

    conduct(jobs(folder, count), engine, tell)
    return told


def test_every_slot_is_used(tmp_path: Path) -> None:
    engine = Script(3, **{f"s{i}": [DONE] for i in range(7)})
    assert outcomes(tmp_path, engine, 7) == dict.fromkeys(range(7), DONE)
    assert engine.most == 3
    assert engine.started == list(range(7))


def test_what_somebody_else_does_comes_last_and_again(tmp_path: Path) -> None:
    engine = Script(1, s0=[BUSY, BUSY, FOUND], s1=[DONE], s2=[BUSY, DONE])
    told = outcomes(tmp_path, engine, 3)
    assert told == {0: FOUND, 1: DONE, 2: DONE}
    assert engine.started[:3] == [0, 1, 2]


def test_while_all_is_busy_somebody_is_told(tmp_path: Path) -> None:
    idle: list[int] = []
    engine = Script(2, s0=[BUSY, FOUND], s1=[BUSY, FOUND])
    conduct(jobs(tmp_path, 2), engine, lambda *_: None, idle.append)
    assert idle
    assert set(idle) <= {1, 2}


def test_a_run_whose_process_dies_is_tried_once_more(tmp_path: Path) -> None:
    engine = Script(1, s0=[DIED, DONE], s1=[DIED, DIED], s2=[FAILED])
    assert outcomes(tmp_path, engine, 3) == {0: DONE, 1: FAILED, 2: FAILED}
    assert sorted(engine.started) == [0, 0, 1, 1, 2]
    first, second, third = jobs(tmp_path, 3)
    assert read_failure(first.folder) is None
    failure = read_failure(second.folder)
    assert failure.message == "killed, 2 times"
    assert "last words" in Path(failure.log).read_text()
    assert read_failure(third.folder) is None  # who raised has noted it


def test_a_run_that_somebody_took_on_is_not_given_up(tmp_path: Path) -> None:
    engine = Script(1, s0=[DIED, DIED, FOUND])
    (job,) = jobs(tmp_path, 1)
    told: list[Outcome] = []
    # Another thread's claim, as good as another process's.
    import threading

    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with claimed(job.folder):
            held.set()
            free.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    try:
        conduct([job], engine, lambda job, outcome: told.append(outcome))
    finally:
        free.set()
        thread.join()
    assert told == [FOUND]
    assert read_failure(job.folder) is None


def test_failures_differ(tmp_path: Path) -> None:
    (job,) = jobs(tmp_path, 1)
    first = note_failure(job.folder, job.run, "once", "a\nb\n")
    second = note_failure(job.folder, job.run, "twice")
    assert first.attempt != second.attempt
    assert read_failure(job.folder) == second
    assert Path(second.log).read_text() == "failed: once\na\nb\nfailed: twice\n"
    assert str(second).startswith("x, plain, seed 0: twice\n  See ")


def test_a_run_that_nobody_needs_any_more_does_not_begin(tmp_path: Path) -> None:
    engine = Script(slots=2, s0=[DONE], s3=[DONE])
    told: dict[int, Outcome] = {}
    wanted = {0, 3}
    conduct(
        jobs(tmp_path, 5),
        engine,
        lambda job, outcome: told.update({job.run.train.seed: outcome}),
        wanted=lambda job: job.run.train.seed in wanted,
    )
    assert engine.started == [0, 3]
    assert told == {s: DONE if s in wanted else Outcome.DECIDED for s in range(5)}


def test_what_somebody_else_did_may_not_be_needed_either(tmp_path: Path) -> None:
    engine = Script(s0=[BUSY])
    told: list[Outcome] = []
    answers = iter([True, False])
    conduct(
        jobs(tmp_path, 1),
        engine,
        lambda job, outcome: told.append(outcome),
        wanted=lambda job: next(answers),
    )
    assert told == [Outcome.DECIDED]
