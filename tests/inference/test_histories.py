import itertools
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from recbole_session.data.batches import UNKNOWN_TIME
from recbole_session.errors import InputError
from recbole_session.inference.histories import Request, gather_histories, to_second
from tests.conftest import DAY

IDS = {"a": 1, "b": 2, "c": 3, "7": 4}


def gather(*requests: Request) -> list[tuple[list[int], list[int], list[int]]]:
    """Items, times and sessions (from 0) of every history that has a known item; item 0 is the one to predict."""
    histories = gather_histories(requests, IDS, DAY)
    sequences, offsets = histories.sequences, histories.sequences.offsets.tolist()
    parts = []
    for begin, end in itertools.pairwise(offsets):
        sessions = sequences.sessions[begin:end] - sequences.sessions[begin]
        parts.append((sequences.items[begin:end].tolist(), sequences.times[begin:end].tolist(), sessions.tolist()))
    return parts


def test_any_order_is_sorted_by_time_and_ties_keep_theirs() -> None:
    history = [("c", 50), ("b", 10), ("a", 10), ("b", 5)]
    assert gather(Request(history, now=50)) == [([2, 2, 1, 3, 0], [5, 10, 10, 50, 50], [0, 0, 0, 0, 0])]


def test_a_session_ends_with_a_silence_strictly_longer_than_the_gap() -> None:
    history = [("a", 0), ("b", DAY), ("c", 2 * DAY + 1)]
    assert gather(Request(history, now=3 * DAY + 1)) == [
        ([1, 2, 3, 0], [0, DAY, 2 * DAY + 1, 3 * DAY + 1], [0, 0, 1, 1])
    ]
    assert gather(Request(history, now=3 * DAY + 2))[0][2] == [0, 0, 1, 2]


@pytest.mark.parametrize(("new_session", "last"), [(True, 1), (False, 0), ("auto", 0)])
def test_new_session_can_be_said(new_session: object, last: int) -> None:
    requests = [Request([("a", 0), ("b", 10)], now=20, new_session=new_session)] * 2
    assert gather(*requests) == [([1, 2, 0], [0, 10, 20], [0, 0, last])] * 2


def test_a_session_that_goes_on_after_a_long_silence() -> None:
    assert gather(Request([("a", 0), ("b", 10)], now=9 * DAY, new_session=False))[0][2] == [0, 0, 0]


def test_session_ids_win_over_silence() -> None:
    history = [("a", 9 * DAY, "x"), ("b", 0, "x"), ("c", 9 * DAY + 1, "y"), ("a", 9 * DAY + 2, None)]
    assert gather(Request(history, now=9 * DAY + 3))[0][2] == [0, 0, 1, 2, 2]
    assert gather(Request(history, now=99 * DAY))[0][2] == [0, 0, 1, 2, 3]


def test_unknown_items_are_dropped_before_sessions_are_derived_and_counted() -> None:
    requests = [
        Request([("a", 0), ("?", DAY), ("b", 2 * DAY)], now=2 * DAY),
        Request([("?", 0), ("!", 1)]),
        Request([]),
        Request([(7, 5)]),  # raw ids are texts; a number is read as one
    ]
    histories = gather_histories(requests, IDS, DAY)
    assert gather(*requests) == [
        ([1, 2, 0], [0, 2 * DAY, 2 * DAY], [0, 1, 1]),
        ([4, 0], [5, UNKNOWN_TIME], [0, 0]),
    ]
    assert histories.skipped.tolist() == [1, 2, 0, 0]
    assert histories.answered.tolist() == [0, 3]
    assert histories.opens_session.tolist() == [False, True, True, False]


def test_now_is_the_last_event_by_default_even_if_its_item_is_unknown() -> None:
    assert gather(Request([("?", 9 * DAY), ("a", 3)])) == [([1, 0], [3, UNKNOWN_TIME], [0, 1])]


@pytest.mark.parametrize(
    "time",
    [
        1_000_000_000,
        np.int64(1_000_000_000),
        1_000_000_000.9,
        datetime(2001, 9, 9, 1, 46, 40, 999_999),
        datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC),
        datetime(2001, 9, 9, 3, 46, 40, tzinfo=timezone(timedelta(hours=2))),
    ],
    ids=repr,
)
def test_times_are_seconds_or_datetimes(time: object) -> None:
    assert to_second(time, "time") == 1_000_000_000
    assert gather(Request([("a", time), ("b", 5)])) == [([2, 1, 0], [5, 10**9, UNKNOWN_TIME], [0, 1, 1])]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request([("a", "noon")]), "the history: a time is 'noon'; allowed: seconds"),
        (Request([("a", True)]), "a time is True"),
        (Request([("a", float("nan"))]), "a time is nan"),
        (Request([("a", None)]), "a time is None"),
        (Request([("a", 1_700_000_000_000)]), "milliseconds"),
        (Request([("a", 10**30)]), "milliseconds"),
        (Request([("a", 5)], now="later"), "the history: now is 'later'"),
        (Request([("a", 5)], now=4), "now is 4, before its last event at 5"),
        (Request([("a", 5)], new_session="maybe"), "new_session is 'maybe'; allowed: True, False or 'auto'"),
        (Request(["ab"]), r"holds the event 'ab'; allowed: \(item, time\)"),
        (Request([("a",)]), r"holds the event \('a',\)"),
        (Request([(["a"], 1)]), "is not an id .*unhashable.*; give texts or numbers"),
        (Request([("a", 1), ("b", 2, "s")]), "name the session of all events or of none"),
    ],
)
def test_mistakes_are_told_in_one_sentence(request_: Request, words: str) -> None:
    with pytest.raises(InputError, match=words):
        gather_histories([Request([("a", 1)]), request_] if "session of all" not in words else [request_], IDS, DAY)


def test_an_error_names_the_history() -> None:
    requests = [Request([("a", 1)], name="history 0"), Request([("a", 1), ("b", "x")], name="history 1")]
    with pytest.raises(InputError, match=r"^history 1: a time is 'x'"):
        gather_histories(requests, IDS, DAY)
