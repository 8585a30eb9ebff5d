"""The preprocessing as array operations: the default engine, and the reference for the other two."""

from __future__ import annotations

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
    sessions are made it is an empty array.
    """

    users: NDArray[np.int32]
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
    counts = [Count("read", raw_rows, raw_users, raw_items)]
    log = _concatenate(pieces)
    for step, apply in (
        ("min_rating", None),
        ("min_item_rows", _drop_rare_items),
        ("min_user_rows", _drop_rare_users),
        ("max_rows_per_user", _keep_latest),
        ("sessions", _keep_users_by_sessions),
    ):
        log = apply(log, thresholds) if apply else log
        counts.append(_count(step, log))
    return Prepared(counts, [log])


def _concatenate(pieces: list[Log]) -> Log:
    if not pieces:
        ints = np.empty(0, dtype=np.int32)
        return Log(ints, ints, np.empty(0), np.empty(0, dtype=np.int64))
    columns = [list(column) for column in zip(*pieces, strict=True)]
    pieces.clear()
    joined = []
    for column in columns:  # column by column, so that only one is held twice
        joined.append(np.concatenate(column))
        column.clear()
    return Log(*joined)


def _count(step: str, log: Log) -> Count:
    present = (int(np.count_nonzero(np.bincount(codes))) for codes in (log.users, log.items))
    return Count(step, len(log.users), *present)


def _drop_rare_items(log: Log, thresholds: Thresholds) -> Log:
    return log.take(np.bincount(log.items)[log.items] >= thresholds.min_item_rows)


def _drop_rare_users(log: Log, thresholds: Thresholds) -> Log:
    return log.take(np.bincount(log.users)[log.users] >= thresholds.min_user_rows)


def _keep_latest(log: Log, thresholds: Thresholds) -> Log:
    """Order rows by (user, time, file order) and keep each user's last ``max_rows_per_user``."""
    order = np.lexsort((log.times, log.users))
    users = log.users[order]
    # How many rows the user still has from here on, this one included.
    remaining = np.cumsum(np.bincount(users))[users] - np.arange(len(users))
    return log.take(order[remaining <= thresholds.max_rows_per_user])


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
