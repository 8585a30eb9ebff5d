"""Raw histories, ids and times as a user has them, turned into the arrays that the datasets are made of."""

import math
import numbers
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_session.data.atomic import LATEST_SECOND
from recbole_session.data.batches import UNKNOWN_TIME
from recbole_session.data.sequences import UserSequences, build_user_sequences
from recbole_session.errors import InputError

Item = str | int
Time = int | float | datetime
Event = tuple[Item, Time] | tuple[Item, Time, Any]
History = Sequence[Event]
NewSession = bool | Literal["auto"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Request:
    """One question: what comes next after ``history``, at the moment ``now``.

    Models that learn a vector per user need ``user``, a raw id, and so does the file of answers.
    """

    history: History  # in any order
    now: Time | None = None  # seconds, Unix UTC; None where it is not known: then no session opens by itself
    new_session: NewSession = "auto"  # whether the next event opens a session
    name: str = "the history"  # how an error calls it
    user: Item | None = None


@dataclass(frozen=True)
class Histories:
    """Several histories with at least one known item, in the form of the dataset's own rows.

    The rows of history ``i`` are those of user ``i``, in order of time; the last one is to be predicted, with item 0.
    """

    sequences: UserSequences
    answered: NDArray[np.int64]  # [n], which of the requests these are
    users: list[Item | None]  # their users, [n]
    opens_session: NDArray[np.bool_]  # [R], for every request: whether the predicted row opens a session
    skipped: NDArray[np.int64]  # [R], for every request: events whose item is unknown

    @property
    def targets(self) -> Tensor:
        """Rows to be predicted, int64 ``[n]``."""
        return self.sequences.offsets[1:] - 1


def to_second(value: Any, name: str) -> int:
    """Whole seconds, Unix UTC, of a number, a datetime or a text that holds either; fractions are cut off.

    A datetime without a time zone is UTC; as a text it is ISO 8601. Anything else, and a number that must count
    milliseconds, is an `InputError`.
    """
    moment = value
    for kind in (int, float, datetime.fromisoformat) if isinstance(value, str) else ():
        with suppress(ValueError):
            moment = kind(value)
            break
    second: int | None = None
    if isinstance(moment, datetime):
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        second = (aware - EPOCH) // timedelta(seconds=1)
    elif isinstance(moment, numbers.Real) and not isinstance(moment, bool) and math.isfinite(moment):
        second = int(moment) if isinstance(moment, numbers.Integral) else math.floor(float(moment))
    if second is None:
        raise InputError(
            f"{name} is {value!r}; allowed: seconds since 1970 (UTC), a datetime, or ISO 8601 such as "
            "2026-01-31T18:00:00Z"
        )
    if abs(second) > LATEST_SECOND:
        raise InputError(f"{name} is {value!r}, beyond {LATEST_SECOND:g}: write seconds, not milliseconds")
    return second


def gather_histories(requests: Sequence[Request], item_ids: Mapping[Any, int], session_gap: int) -> Histories:
    """Bring histories into order and number their sessions, as `SessionDataset` does with its rows.

    Events of unknown items are dropped first, as rows that a converter or a filter dropped before training.
    Then events are sorted by time (stable) and a session starts where the session id changes or, without ids,
    where the silence is longer than ``session_gap`` seconds. ``item_ids`` are internal ids by raw id. An event of
    another form, a time that is none, or a ``now`` before an event is an `InputError`.
    """
    n_requests = len(requests)
    columns = _columns(requests)
    owners = np.repeat(np.arange(n_requests), [len(request.history) for request in requests])
    items = _numbers(requests, columns[0], item_ids)
    times = _seconds(requests, columns[1], owners)
    nows = _nows(requests, times, owners)

    known = items > 0
    answered, users = np.unique(owners[known], return_inverse=True)
    n_histories = len(answered)
    session_ids = None
    if len(columns) == 3:
        code_of = {session: code for code, session in enumerate(dict.fromkeys(columns[2]))}
        ids = np.array(list(map(code_of.__getitem__, columns[2])), dtype=np.int64)
        session_ids = np.concatenate((ids[known], np.full(n_histories, -1)))
    sequences = build_user_sequences(
        # The rows to be predicted come last, so that the stable sort leaves them behind events of their second.
        users=np.concatenate((users, np.arange(n_histories))),
        items=np.concatenate((items[known], np.zeros(n_histories, dtype=np.int64))),
        times=np.concatenate((times[known], nows[answered])),
        n_users=n_histories,
        session_ids=session_ids,
        session_gap=session_gap,
    )
    wanted = [requests[index].new_session for index in answered]
    sequences, opens = _open_sessions(sequences, wanted, session_gap)
    is_unknown = torch.tensor([requests[index].now is None for index in answered], dtype=torch.bool)
    sequences.times[sequences.offsets[1:][is_unknown] - 1] = UNKNOWN_TIME
    opens_session = np.ones(n_requests, dtype=np.bool_)  # without a known event, whatever comes is the first
    opens_session[answered] = opens
    skipped = np.bincount(owners[~known], minlength=n_requests)
    users_asked = [requests[index].user for index in answered]
    return Histories(sequences, answered, users_asked, opens_session, skipped)


def _columns(requests: Sequence[Request]) -> list[tuple[Any, ...]]:
    """Items, times and, where the events have them, sessions of all histories, one after the other."""
    events = list(chain.from_iterable(request.history for request in requests))
    # Sets of types and lengths: one pass each in C, where a test per event would take longer than all the rest.
    are_tuples = all(issubclass(kind, tuple | list) for kind in set(map(type, events)))
    widths = set(map(len, events)) if are_tuples else {0}
    if widths in ({2}, {3}, set()):
        return list(zip(*events, strict=True)) or [(), ()]
    of = [(request.name, event) for request in requests for event in request.history]
    for name, event in of:
        if not isinstance(event, tuple | list) or len(event) not in (2, 3):
            raise InputError(f"{name} holds the event {event!r}; allowed: (item, time) or (item, time, session)")
    narrow, wide = (next(name for name, event in of if len(event) == width) for width in (2, 3))
    raise InputError(
        f"{narrow} has events without a session and {wide} has events with one; name the session of all events or of "
        "none"
    )


def _numbers(requests: Sequence[Request], items: Sequence[Any], item_ids: Mapping[Any, int]) -> NDArray[np.int64]:
    """Internal ids of raw items, int64 ``[N]``; 0 for unknown ones."""
    try:
        found = list(map(item_ids.get, items))
    except TypeError as error:
        raise InputError(
            f"an item of {requests[0].name} or a later one is not an id ({error}); give texts or numbers"
        ) from error
    if None in found:  # unknown, or a number where the raw id is its text
        found = [number or item_ids.get(str(item), 0) for number, item in zip(found, items, strict=True)]
    return np.array(found, dtype=np.int64)


def _seconds(requests: Sequence[Request], values: Sequence[Any], owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Times of all events in seconds, int64 ``[N]``."""
    if set(map(type, values)) <= {int} and max(map(abs, values), default=0) <= LATEST_SECOND:
        return np.array(values, dtype=np.int64)  # the usual case, many times faster
    pairs = zip(values, owners, strict=True)
    return np.array([to_second(value, f"{requests[owner].name}: a time") for value, owner in pairs], dtype=np.int64)


def _nows(requests: Sequence[Request], times: NDArray[np.int64], owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """The moment of every request, int64 ``[R]``."""
    latest = np.full(len(requests), -LATEST_SECOND)
    np.maximum.at(latest, owners, times)
    nows = latest.copy()
    for index, request in enumerate(requests):
        if request.now is not None:
            nows[index] = to_second(request.now, f"{request.name}: now")
        if request.new_session not in (True, False, "auto"):
            raise InputError(f"new_session is {request.new_session!r}; allowed: True, False or 'auto'")
    for index in np.flatnonzero(nows < latest).tolist():
        raise InputError(
            f"{requests[index].name}: now is {nows[index]}, before its last event at {latest[index]}; "
            "give a later now, or leave out what has not happened yet"
        )
    return nows


def _open_sessions(
    sequences: UserSequences, wanted: Sequence[NewSession], session_gap: int
) -> tuple[UserSequences, NDArray[np.bool_]]:
    """Number the sessions of the predicted rows: the latest one's, or the next; also which do open one."""
    targets = sequences.offsets[1:] - 1
    silent = (sequences.times[targets] - sequences.times[targets - 1] > session_gap).tolist()
    opens = np.array(
        [gap if want == "auto" else bool(want) for want, gap in zip(wanted, silent, strict=True)], dtype=np.bool_
    )
    sessions = sequences.sessions.clone()
    sessions[targets] = sessions[targets - 1] + torch.from_numpy(opens)
    return replace(sequences, sessions=sessions), opens
