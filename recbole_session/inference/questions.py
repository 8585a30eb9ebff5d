"""Where the histories of ``recbole-session recommend`` come from; one after the other, never all at once."""

import csv
import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from recbole_session.data.dataset import SessionDataset
from recbole_session.data.splits import Samples
from recbole_session.errors import InputError
from recbole_session.inference.histories import NewSession, Request, Time, to_second

_CSV_COLUMNS = (["user_id", "item_id", "timestamp"], ["user_id", "item_id", "timestamp", "session_id"])
_JSON_KEYS = {"user", "history", "now", "new_session"}


def read_requests(path: Path, now: Time | None, new_session: NewSession) -> Iterator[Request]:
    """Read a file of histories; ``now`` and ``new_session`` hold for those that do not say otherwise.

    ``.csv``
        Header ``user_id,item_id,timestamp`` or, with sessions, ``user_id,item_id,timestamp,session_id``; a line
        per event, the lines of one user together.
    ``.jsonl``, ``.ndjson``
        A line per history: ``{"user": "7", "history": [["242", 881250949], ...]}``, and, if wanted, ``now`` and
        ``new_session``.

    Times are seconds (Unix, UTC) or ISO 8601. An `InputError` names the file and the line.
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


def _read_csv(path: Path, now: Time | None, new_session: NewSession) -> Iterator[Request]:
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
                (item, to_second(time, f"{path}, line {line}: timestamp"), *session)
                for line, (_, item, time, *session) in zip(lines, fields, strict=True)
            ]
            yield Request(history, now, new_session, f"{path}, line {lines[0]}", user)


def _checked_rows(path: Path, rows: Any, width: int) -> Iterator[tuple[int, list[str]]]:
    for row in rows:
        if row and len(row) != width:
            raise InputError(f"{path}, line {rows.line_num} has {len(row)} columns; the header names {width}")
        if row:
            yield rows.line_num, row


def _read_json_lines(path: Path, now: Time | None, new_session: NewSession) -> Iterator[Request]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _parse_json_line(line, f"{path}, line {number}", now, new_session)


def _parse_json_line(line: str, where: str, now: Time | None, new_session: NewSession) -> Request:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}") from error
    if not isinstance(value, dict) or "user" not in value or not isinstance(value.get("history"), list):
        raise InputError(f'{where} must be {{"user": ..., "history": [[item, time], ...]}}')
    unknown = set(value) - _JSON_KEYS
    if unknown:
        raise InputError(f"{where}: key {min(unknown)!r} is unknown; allowed: {', '.join(sorted(_JSON_KEYS))}")
    history = [
        (event[0], to_second(event[1], f"{where}: a time"), *event[2:])
        if isinstance(event, list) and len(event) > 1
        else event
        for event in value["history"]
    ]
    moment = now if value.get("now") is None else to_second(value["now"], f"{where}: now")
    return Request(history, moment, value.get("new_session", new_session), where, str(value["user"]))


def dataset_requests(
    dataset: SessionDataset, at: str, now: Time | None = None, new_session: NewSession = "auto", only: str | None = None
) -> Iterator[Request]:
    """Ask about every user of a built dataset or, at the test position, about every target of the test split.

    At the ``"end"`` the history is all that the user did. At the ``"test"`` it is all before the target, at its
    time and in its session, as in the run's evaluation; ``now`` and ``new_session``, see `Request`, are then ignored.
    With ``only``, a raw id, this user alone is asked about.
    """
    sequences = dataset.sequences
    users, ends = positions(dataset, at)
    if only is not None:
        chosen = users == dataset.field2token_id[dataset.uid_field].get(only, 0)
        users, ends = users[chosen], ends[chosen]
    item_names, user_names = (dataset.field2id_token[field] for field in (dataset.iid_field, dataset.uid_field))
    for user, end in zip(users.tolist(), ends.tolist(), strict=True):
        rows = slice(int(sequences.offsets[user]), end)
        items = item_names[sequences.items[rows].numpy()].tolist()
        history = list(zip(items, sequences.times[rows].tolist(), sequences.sessions[rows].tolist(), strict=True))
        if at == "test":
            now, new_session = int(sequences.times[end]), bool(sequences.sessions[end] != sequences.sessions[end - 1])
        name = str(user_names[user])
        yield Request(history, now, new_session, f"user {name!r}", name)


def positions(dataset: SessionDataset, at: str) -> Samples:
    """Users and ends of their histories for `dataset_requests`, int64 ``[n]`` both."""
    if at == "test":
        return dataset.samples["test"]
    users = (dataset.sequences.lengths > 0).nonzero()[:, 0]
    return users, dataset.sequences.offsets[users + 1]
