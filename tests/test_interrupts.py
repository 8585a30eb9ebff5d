"""Signals that wait for a safe moment, and signals that do not."""

import os
import signal
import time

import pytest

from recbole_session import interrupts
from recbole_session.interrupts import Interrupted, signals_noted, signals_raise, stop_if_signalled


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_noted_signal_is_raised_where_the_block_asks_or_at_its_end(number: int) -> None:
    for asks in (True, False):
        steps = []
        with pytest.raises(Interrupted) as caught, signals_noted():
            os.kill(os.getpid(), number)
            steps.append("noted")
            os.kill(os.getpid(), signal.SIGINT)  # an echo
            if asks:
                stop_if_signalled()
            steps.append("done")
        assert steps == ["noted", "done"][: 1 if asks else 2]
        assert caught.value.exit_code == 128 + number
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    stop_if_signalled()  # nothing is left of it


def test_a_second_signal_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "ECHO_SECONDS", 0.0)
    steps = []
    with pytest.raises(KeyboardInterrupt) as caught, signals_noted():
        os.kill(os.getpid(), signal.SIGTERM)
        steps.append("noted")
        os.kill(os.getpid(), signal.SIGINT)
        steps.append("never")
    assert steps == ["noted"]
    assert type(caught.value) is KeyboardInterrupt


def test_a_second_signal_does_not_break_into_the_saving() -> None:
    saved = []
    with pytest.raises(Interrupted) as caught, signals_raise():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except Interrupted:
            os.kill(os.getpid(), signal.SIGINT)
            saved.append(True)
            raise
    assert saved
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_a_signal_nothing_changes() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with signals_noted():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
