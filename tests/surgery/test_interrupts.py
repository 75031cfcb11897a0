"""Signals that wait. `tests/fuzz/fuzz_interrupts.py` sends them at random moments."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from attnzoo.tracing.interrupts import answer, held, waited_for

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")


@pytest.fixture
def interrupts() -> Any:
    former = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGALRM, former)


@pytest.mark.usefixtures("interrupts")
def test_a_signal_waits_for_an_answer_or_the_end() -> None:
    steps: list[str] = []

    def answered() -> None:
        signal.raise_signal(signal.SIGALRM)
        steps.append("after the signal")
        with held():  # what is held already is held by the outermost
            steps.append("inside")
        answer()
        steps.append("after the answer")

    def unanswered() -> None:
        signal.raise_signal(signal.SIGALRM)
        steps.append("at the end")

    for run in (answered, unanswered):
        with pytest.raises(KeyboardInterrupt), held():
            run()
    assert steps == ["after the signal", "inside", "at the end"]
    assert signal.getsignal(signal.SIGALRM) is signal.default_int_handler


@pytest.mark.usefixtures("interrupts")
def test_a_signal_that_came_before_an_error_is_not_lost() -> None:
    def fail() -> None:
        signal.raise_signal(signal.SIGALRM)
        raise ValueError("something else")

    with pytest.raises(KeyboardInterrupt) as caught, held():
        fail()
    assert isinstance(caught.value.__context__, ValueError)


def test_a_handler_that_does_not_raise_runs_and_the_verb_goes_on() -> None:
    came: list[int] = []
    former = signal.signal(signal.SIGALRM, lambda number, _: came.append(number))
    try:
        with held():
            signal.raise_signal(signal.SIGALRM)
            assert came == []
            answer()
            assert came == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, former)


@pytest.mark.usefixtures("interrupts")
def test_a_second_signal_does_not_wait_for_a_model_that_never_comes_to_an_operation() -> None:
    signals: list[int] = []

    def hang() -> None:
        for _ in range(3):
            signals.append(signal.SIGALRM)
            signal.raise_signal(signal.SIGALRM)

    with pytest.raises(KeyboardInterrupt), held(), waited_for():
        hang()
    assert len(signals) == 2
    assert signal.getsignal(signal.SIGALRM) is signal.default_int_handler


@pytest.mark.usefixtures("interrupts")
def test_all_handlers_come_back_even_if_one_raises_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put, came = signal.signal, []

    def raising(number: int, handler: Any) -> Any:
        former = put(number, handler)
        if handler is signal.default_int_handler and not came:
            came.append(number)
            raise KeyboardInterrupt
        return former

    numbers = (signal.SIGINT, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(KeyboardInterrupt), held():
        monkeypatch.setattr(signal, "signal", raising)
    assert came
    assert [signal.getsignal(number) for number in numbers] == before


def test_in_another_thread_nothing_is_held() -> None:
    seen: list[Any] = []

    def look() -> None:
        with held(), waited_for():
            seen.append(signal.getsignal(signal.SIGINT))
            answer()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
