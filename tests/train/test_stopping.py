"""Signals: the step in progress ends first, and the program's own handlers come back."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from attnzoo.train import Interrupted
from attnzoo.train.stopping import catching_stops


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_noted_and_the_handlers_come_back(number: int, code: int) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with catching_stops() as stop:
        assert not stop.number
        os.kill(os.getpid(), number)
        assert stop.number == number
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    error = Interrupted("Stopped.", stop.number)
    assert isinstance(error, KeyboardInterrupt)
    assert (error.exit_code, error.signal, str(error)) == (code, number, "Stopped.")


def test_a_second_ctrl_c_does_not_wait() -> None:
    with catching_stops():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_the_program_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with catching_stops() as stop:
            os.kill(os.getpid(), signal.SIGINT)
        assert not stop.number
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_nothing_is_caught() -> None:
    seen = []

    def work() -> None:
        with catching_stops() as stop:
            seen.append((stop.number, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, signal.getsignal(signal.SIGTERM))]
