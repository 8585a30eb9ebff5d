"""The preprocessing as array operations: what the default engine is made of, and the reference for the other two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_session.converters.sessions import session_starts
from recbole_session.converters.thresholds import Thresholds


class Log(NamedTuple):
    """Coded interactions, columns of one length.

    ``users`` and ``items`` are int32 codes by first appearance, ``ratings`` float64, ``times`` int64
    seconds (Unix, UTC). ``sessions`` is the int64 number of the session within its user, from 1; before
    sessions are made it is an empty array. Where rows wait to be written, ``users`` may also be the tokens
    themselves: an object array of bytes.
    """

    users: NDArray[Any]
    items: NDArray[np.int32]
    ratings: NDArray[np.float64]
    times: NDArray[np.int64]
    sessions: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def take(self, rows: NDArray[Any] | slice) -> Log:
        """Return the rows chosen by a mask or by positions."""
        sessions = self.sessions[rows] if len(self.sessions) else self.sessions
        return Log(self.users[rows], self.items[rows], self.ratings[rows], self.times[rows], sessions)


class Count(NamedTuple):
    """What is left after a step."""

    step: str
    rows: int
    users: int
    items: int


class Prepared(NamedTuple):
    """An engine's result: counts after each step, and the rows in (user, time, file) order, in chunks."""

    counts: list[Count]
    chunks: Iterable[Log]


_NONE = np.zeros(0, dtype=bool)


class Tally:
    """Counts rows, users and items after each step, over parts of a log that come one after another."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._closed_users: Counter[str] = Counter()
        self._users: dict[str, NDArray[np.bool_]] = {}
        self._items: dict[str, NDArray[np.bool_]] = {}

    def add(self, step: str, log: Log) -> None:
        """Count what a step has left; the codes of users hold until `close_users`, those of items for good."""
        self._rows[step] += len(log.users)
        self._users[step] = _marked(self._users.get(step, _NONE), log.users)
        self._items[step] = _marked(self._items.get(step, _NONE), log.items)

    def close_users(self) -> None:
        """The users counted so far come no more; their codes may mean others from here on."""
        for step, users in self._users.items():
            self._closed_users[step] += int(np.count_nonzero(users))
        self._users.clear()

    def counts(self) -> list[Count]:
        """Return the count of each step, in the order in which the steps were first seen."""
        self.close_users()
        return [
            Count(step, rows, self._closed_users[step], int(np.count_nonzero(self._items[step])))
            for step, rows in self._rows.items()
        ]


def _marked(present: NDArray[np.bool_], codes: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Set ``present`` [codes so far] to True at the codes; a longer copy if some are new."""
    beyond = int(codes.max(initial=-1)) + 1 - len(present)
    if beyond > 0:
        present = np.concatenate([present, np.zeros(beyond, dtype=bool)])
    present[codes] = True
    return present


def prepare_in_memory(logs: Iterator[Log], thresholds: Thresholds, scratch: Path) -> Prepared:
    """Run the preprocessing on arrays in memory: 24 bytes a row, more while it sorts."""
    del scratch  # the other engines spill there
    pieces, raw_rows, raw_users, raw_items = [], 0, 0, 0
    for log in logs:
        raw_rows += len(log.users)
        raw_users = max(raw_users, int(log.users.max(initial=-1)) + 1)
        raw_items = max(raw_items, int(log.items.max(initial=-1)) + 1)
        # Filtered while reading: a low rating never takes memory.
        pieces.append(log.take(log.ratings >= thresholds.min_rating))
    log, tally = concatenate(pieces), Tally()
    tally.add("min_rating", log)
    log = _drop_rare_items(log, thresholds)
    tally.add("min_item_rows", log)
    log = finish_users(log, thresholds, tally)
    return Prepared([Count("read", raw_rows, raw_users, raw_items), *tally.counts()], [log])


def finish_users(log: Log, thresholds: Thresholds, tally: Tally) -> Log:
    """Take the steps that look at one user at a time, the last three; ``log`` holds all rows of its users."""
    for step, apply in (
        ("min_user_rows", _drop_rare_users),
        ("max_rows_per_user", _keep_latest),
        ("sessions", _keep_users_by_sessions),
    ):
        log = apply(log, thresholds)
        tally.add(step, log)
    return log


def concatenate(pieces: list[Log]) -> Log:
    """Join logs without sessions and empty the list, so that memory holds one column twice at most."""
    if not pieces:
        ints = np.empty(0, dtype=np.int32)
        return Log(ints, ints, np.empty(0), np.empty(0, dtype=np.int64))
    columns = [list(column) for column in zip(*pieces, strict=True)]
    pieces.clear()
    joined = []
    for column in columns:
        joined.append(np.concatenate(column))
        column.clear()
    return Log(*joined)


def _drop_rare_items(log: Log, thresholds: Thresholds) -> Log:
    return log.take(np.bincount(log.items)[log.items] >= thresholds.min_item_rows)


def _drop_rare_users(log: Log, thresholds: Thresholds) -> Log:
    return log.take(np.bincount(log.users)[log.users] >= thresholds.min_user_rows)


def _keep_latest(log: Log, thresholds: Thresholds) -> Log:
    return split_latest(log, thresholds.max_rows_per_user)[0]


def split_latest(log: Log, most: int) -> tuple[Log, Log]:
    """Order rows by (user, time, file order) and split them into each user's last ``most`` and the rest."""
    order = np.lexsort((log.times, log.users))
    users = log.users[order]
    # How many rows the user still has from here on, this one included.
    remaining = np.cumsum(np.bincount(users))[users] - np.arange(len(users))
    return log.take(order[remaining <= most]), log.take(order[remaining > most])


def _keep_users_by_sessions(log: Log, thresholds: Thresholds) -> Log:
    """Give sessions their numbers and keep users with enough of them, none too short."""
    if not len(log.users):
        return log
    starts = session_starts(log.users, log.times, thresholds.session_gap)
    session = np.cumsum(starts) - 1  # over the whole log
    session_rows = np.bincount(session)
    session_user = log.users[starts]
    sessions_of_user = np.bincount(session_user)
    too_short = session_user[session_rows < thresholds.min_rows_per_session]
    wanted = sessions_of_user >= thresholds.min_sessions
    wanted[too_short] = False
    first_session = np.cumsum(sessions_of_user) - sessions_of_user  # of each user, over the whole log
    numbered = log._replace(sessions=session - first_session[log.users] + 1)
    return numbered.take(wanted[log.users])
