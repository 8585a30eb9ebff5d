"""A live table in a terminal, plain lines elsewhere."""

import io
import sys
import time

import pytest

from recbole_session.live import in_words, live_table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    """Tell two lines above a table of one row, once the table has been drawn."""
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    drawn: list[bool] = []

    def rows() -> tuple[list[tuple[str, str]], str]:
        drawn.append(True)
        return [("plain [ST]", "epoch 3")], "1 of 2 made"

    with live_table(("row", "now"), rows) as tell:
        tell("first [bold]")
        while isinstance(stream, Terminal) and len(drawn) < 3:
            time.sleep(0.01)
        tell("second")
    return stream.getvalue()


def test_a_terminal_shows_the_table_below_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = show(monkeypatch, Terminal())
    for words in ("first [bold]", "plain [ST]  epoch 3", "1 of 2 made", "second"):
        assert words in text


def test_elsewhere_there_are_lines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert show(monkeypatch, io.StringIO()) == "first [bold]\nsecond\n"


def test_durations_in_words() -> None:
    assert [in_words(seconds) for seconds in (0.4, 99, 100, 3600, 6000)] == ["0 s", "99 s", "2 min", "60 min", "1.7 h"]
