"""Signals that wait."""

import os
import signal

import pytest

from recbole_session.interrupts import Interrupted, signals_raise, signals_wait


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_the_block_is_over(number: int) -> None:
    steps = []
    with pytest.raises(Interrupted) as caught, signals_raise():
        with signals_wait():
            os.kill(os.getpid(), number)
            steps.append("kept")
        steps.append("never")
    assert steps == ["kept"]
    assert caught.value.number == number


def test_without_a_signal_nothing_changes() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with signals_wait():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
