"""Where the histories of ``recbole-session recommend`` come from; one after the other, never all at once."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from recbole_session.data.dataset import SessionDataset
from recbole_session.errors import InputError
from recbole_session.inference.histories import NewSession, Request, Time

_CSV_COLUMNS = (["user_id", "item_id", "timestamp"], ["user_id", "item_id", "timestamp", "session_id"])
_JSON_KEYS = {"user", "history", "now", "new_session"}


@dataclass(frozen=True)
class Question:
    """A request and the user, by raw id, who will get the answer."""

    user: str
    request: Request


def read_questions(path: Path, now: Time | None, new_session: NewSession) -> Iterator[Question]:
    """Read a file of histories; ``now`` and ``new_session`` hold for those that do not say otherwise.

    ``.csv``
        Header ``user_id,item_id,timestamp`` or, with sessions, ``user_id,item_id,timestamp,session_id``; a line
        per event, the lines of one user together.
    ``.jsonl``, ``.ndjson``
        A line per history: ``{"user": "7", "history": [["242", 881250949], ...]}``, and, if wanted, ``now`` and
        ``new_session``.

    Times are seconds (Unix, UTC) or ISO 8601.

    Raises
    ------
    InputError
        Naming the file and the line.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_json_lines, ".ndjson": _read_json_lines}
    if path.suffix not in readers:
        raise InputError(f"histories {path} must be one of {', '.join(readers)}; it is recognised by the ending")
    try:
        yield from readers[path.suffix](path, now, new_session)
    except OSError as error:
        raise InputError(f"histories {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"histories {path} cannot be read: {error}") from error


def _read_csv(path: Path, now: Time | None, new_session: NewSession) -> Iterator[Question]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if header not in _CSV_COLUMNS:
            raise InputError(f"{path}, line 1 is {','.join(header)!r}; it must be {','.join(_CSV_COLUMNS[1])!r}")
        finished: set[int] = set()  # 64 bits per user, to find the one whose lines are scattered
        for user, group in groupby(_checked_rows(path, rows, len(header)), key=lambda pair: pair[1][0]):
            lines, fields = zip(*group, strict=True)
            if hash(user) in finished:
                raise InputError(f"{path}, line {lines[0]}: user {user!r} was here before; sort the file by user")
            finished.add(hash(user))
            history = [
                (item, parse_time(time, f"{path}, line {line}: timestamp"), *session)
                for line, (_, item, time, *session) in zip(lines, fields, strict=True)
            ]
            yield Question(user, Request(history, now, new_session, f"{path}, line {lines[0]}"))


def _checked_rows(path: Path, rows: Any, width: int) -> Iterator[tuple[int, list[str]]]:
    for row in rows:
        if row and len(row) != width:
            raise InputError(f"{path}, line {rows.line_num} has {len(row)} columns; the header names {width}")
        if row:
            yield rows.line_num, row


def _read_json_lines(path: Path, now: Time | None, new_session: NewSession) -> Iterator[Question]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _parse_json_line(line, f"{path}, line {number}", now, new_session)


def _parse_json_line(line: str, where: str, now: Time | None, new_session: NewSession) -> Question:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is no JSON: {error}") from error
    if not isinstance(value, dict) or "user" not in value or not isinstance(value.get("history"), list):
        raise InputError(f'{where} must be {{"user": ..., "history": [[item, time], ...]}}')
    unknown = set(value) - _JSON_KEYS
    if unknown:
        raise InputError(f"{where}: key {min(unknown)!r} is unknown; allowed: {', '.join(sorted(_JSON_KEYS))}")
    history = [
        (event[0], parse_time(event[1], f"{where}: a time"), *event[2:])
        if isinstance(event, list) and len(event) > 1
        else event
        for event in value["history"]
    ]
    moment = value.get("now", now)
    moment = None if moment is None else parse_time(moment, f"{where}: now")
    return Question(str(value["user"]), Request(history, moment, value.get("new_session", new_session), where))


def parse_time(value: Any, name: str) -> Any:
    """Read seconds or ISO 8601 from text; what is no text stays as it is.

    Raises
    ------
    InputError
        If the text is neither.
    """
    if not isinstance(value, str):
        return value
    for kind in (int, float, datetime.fromisoformat):
        try:
            return kind(value)
        except ValueError:
            continue
    raise InputError(f"{name} is {value!r}; allowed: seconds since 1970 (UTC), or ISO 8601, e.g. 2026-01-31T18:00:00Z")


def dataset_questions(
    dataset: SessionDataset,
    at: str,
    now: Time | None = None,
    new_session: NewSession = "auto",
    only: str | None = None,
) -> Iterator[Question]:
    """Ask about every user of a built dataset, or, at the test position, about every user of the test split.

    Parameters
    ----------
    dataset : SessionDataset
        After its `build`.
    at : "end" or "test"
        ``"end"``: the history is all that the user did. ``"test"``: all but the latest row, at that row's time
        and with its session, as in the run's evaluation; ``now`` and ``new_session`` have no say then.
    now, new_session
        See `Request`.
    only : str, optional
        Raw id: ask about this user alone.
    """
    sequences, offsets = dataset.sequences, dataset.sequences.offsets.tolist()
    item_names, user_names = (dataset.field2id_token[field] for field in (dataset.iid_field, dataset.uid_field))
    is_test = at == "test"
    users = np.flatnonzero(sequences.lengths.numpy() >= (3 if is_test else 1))
    if only is not None:
        users = users[users == dataset.field2token_id[dataset.uid_field].get(only, 0)]
    for user in users.tolist():
        rows = slice(offsets[user], offsets[user + 1])
        items = item_names[sequences.items[rows].numpy()].tolist()
        times, sessions = sequences.times[rows].tolist(), sequences.sessions[rows].tolist()
        history = list(zip(items, times, sessions, strict=True))
        name = f"user {user_names[user]!r}"
        if is_test:
            opens = sessions[-1] != sessions[-2]
            yield Question(str(user_names[user]), Request(history[:-1], times[-1], opens, name))
        else:
            yield Question(str(user_names[user]), Request(history, now, new_session, name))
