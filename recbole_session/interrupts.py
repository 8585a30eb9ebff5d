"""SIGINT and SIGTERM: noted for a safe moment, or raised at once.

An exception from a signal handler can interrupt any library at any line. TensorBoard's queue, for one, may then hang
when it is closed. So training and evaluation only note the signal, check for it between two batches, and save first.
"""

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO_SECONDS = 1.0  # torchrun passes a Ctrl-C on to processes that the terminal has already signalled

_noted: list[tuple[int, float]] = []  # the signal that `signals_noted` has seen, and when


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to leave; ``exit_code`` is what a shell reports: 130 for SIGINT, 143 for SIGTERM."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number
        self.exit_code = 128 + number


@contextmanager
def signals_noted() -> Iterator[None]:
    """Note the first SIGINT or SIGTERM within the block; `stop_if_signalled` raises it at a safe moment.

    `Interrupted` is raised at the latest when the block ends. A second signal, `ECHO_SECONDS` or more after the first,
    does at once what it would do outside the block.
    """
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread alone
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        if not _noted:
            _noted.append((number, time.monotonic()))
        elif time.monotonic() - _noted[0][1] >= ECHO_SECONDS:
            _restore(before)
            signal.raise_signal(number)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield
        stop_if_signalled()
    finally:
        _restore(before)
        _noted.clear()


def is_signalled() -> bool:
    """Whether `signals_noted` has seen a signal."""
    return bool(_noted)


def stop_if_signalled(anyway: bool = False) -> None:
    """Raise `Interrupted` if `signals_noted` has seen a signal, or with ``anyway``, if another process has."""
    if _noted or anyway:
        number = _noted[0][0] if _noted else signal.SIGTERM
        raise Interrupted(f"{signal.Signals(number).name} received", number)


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


@contextmanager
def signals_raise() -> Iterator[None]:
    """Raise `Interrupted` at the first SIGINT or SIGTERM within the block, and ignore those that follow it.

    torchrun passes a Ctrl-C on as a second signal, which must not break into the saving. Python delivers signals
    only to the main thread; in another one the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(f"{signal.Signals(number).name} received", number)

    before = {number: signal.signal(number, leave) for number in SIGNALS}
    try:
        yield
    finally:
        _restore(before)
