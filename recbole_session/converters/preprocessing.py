"""The preprocessing: its numbers as data, from which flags are made, and its steps as SQL for DuckDB and for Spark."""

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from recbole_session.errors import InputError

DAY = 86_400  # seconds; the paper's session gap


def _number(default: float, help: str, least: float = 1) -> Any:
    return field(default=default, metadata={"help": help, "least": least})


@dataclass(frozen=True)
class Thresholds:
    """The preprocessing's numbers; the defaults are what the paper uses for every dataset."""

    min_rating: float = _number(-math.inf, "keep rows with at least this rating", least=-math.inf)
    min_item_rows: int = _number(5, "then drop items with fewer rows")
    min_user_rows: int = _number(5, "then drop users with fewer rows")
    max_rows_per_user: int = _number(200, "then keep each user's latest rows, at most this many")
    session_gap: int = _number(DAY, "a gap of more than this many seconds opens a new session", least=0)
    min_sessions: int = _number(2, "drop users with fewer sessions")
    min_rows_per_session: int = _number(2, "drop users with any session of fewer rows")

    def __post_init__(self) -> None:
        for name, least in ((each.name, each.metadata["least"]) for each in fields(self)):
            value, any_number = getattr(self, name), least == -math.inf
            whole = isinstance(value, int) and not isinstance(value, bool)
            # `not (value >= least)` also refuses NaN.
            if not (whole or any_number) or not (value >= least) or value > 2**53:
                kind = "a number" if any_number else f"a whole number of at least {least}"
                raise InputError(f"--{name} is {value!r}, but must be {kind}.")


def resolve_thresholds(base: Thresholds, all_users: bool, given: dict[str, Any]) -> Thresholds:
    """Return a dataset's thresholds, ``base``, overridden by what the user typed: ``given``, None where nothing was.

    ``all_users`` replaces the thresholds that drop users as such by 1; rows still fall to the rating, item and length
    steps. An `InputError` if a value is out of its range.
    """
    changed: dict[str, Any] = {"min_user_rows": 1, "min_sessions": 1, "min_rows_per_session": 1} if all_users else {}
    changed |= {name: value for name, value in given.items() if value is not None}
    if isinstance(changed.get("min_rating"), int):
        changed["min_rating"] = float(changed["min_rating"])  # 4 and 4.0 give the same card
    return replace(base, **changed)


# ---- the steps, one statement each: the only statement of them

RAW = "raw_rows"  # line BIGINT, user_id, item_id, rating DOUBLE, seconds BIGINT, own_session VARCHAR
_COLUMNS = "line, user_id, item_id, rating, seconds"

_STEPS = {
    "min_rating": "SELECT * FROM {previous} WHERE rating >= CAST('{min_rating}' AS DOUBLE)",
    "min_item_rows": """
        SELECT * FROM {previous} WHERE item_id IN
            (SELECT item_id FROM {previous} GROUP BY item_id HAVING count(*) >= {min_item_rows})""",
    "min_user_rows": """
        SELECT * FROM {previous} WHERE user_id IN
            (SELECT user_id FROM {previous} GROUP BY user_id HAVING count(*) >= {min_user_rows})""",
    "max_rows_per_user": """
        SELECT {columns}, own_session FROM (
            SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY seconds DESC, line DESC) AS recency
            FROM {previous}) AS ranked
        WHERE recency <= {max_rows_per_user}""",
    "sessions": """
        WITH pairs AS (
            SELECT *, {opens} AS opens FROM {previous}
            WINDOW history AS (PARTITION BY user_id ORDER BY seconds, line)),
        numbered AS (
            SELECT *, 1 + count(CASE WHEN opens THEN 1 END) OVER (
                PARTITION BY user_id ORDER BY seconds, line ROWS UNBOUNDED PRECEDING) AS session
            FROM pairs),
        sizes AS (SELECT user_id, session, count(*) AS session_rows FROM numbered GROUP BY user_id, session),
        wanted AS (
            SELECT user_id FROM sizes GROUP BY user_id
            HAVING count(*) >= {min_sessions} AND min(session_rows) >= {min_rows_per_session})
        SELECT {columns}, session FROM numbered WHERE user_id IN (SELECT user_id FROM wanted)""",
}
_BY_GAP = "seconds - lag(seconds) OVER history > {session_gap}"
_BY_ID = "own_session <> lag(own_session) OVER history"

# Users in the order of their first row in the raw file; session tokens count on from one user to the next.
RESULT = f"""
    WITH users AS (
        SELECT user_id, min(line) AS first_line FROM {RAW}
        WHERE user_id IN (SELECT user_id FROM sessions) GROUP BY user_id),
    totals AS (SELECT user_id, max(session) AS sessions FROM sessions GROUP BY user_id),
    placed AS (
        SELECT user_id, first_line,
            sum(sessions) OVER (ORDER BY first_line ROWS UNBOUNDED PRECEDING) - sessions AS before
        FROM users JOIN totals USING (user_id))
    SELECT user_id, item_id, rating, seconds AS timestamp, CAST(before + session AS BIGINT) AS session_id
    FROM sessions JOIN placed USING (user_id) ORDER BY first_line, seconds, line"""


def preprocessing_sql(thresholds: Thresholds, own_sessions: bool = False) -> dict[str, str]:
    """Return step -> SELECT; each reads the table named like the step before, the first one `RAW`.

    With ``own_sessions`` a session starts where ``own_session`` changes, without it after ``session_gap`` seconds.
    """
    numbers = asdict(thresholds)
    opens = (_BY_ID if own_sessions else _BY_GAP).format(**numbers)
    names = [RAW, *_STEPS]
    return {
        step: select.format(previous=previous, columns=_COLUMNS, opens=opens, **numbers)
        for previous, (step, select) in zip(names[:-1], _STEPS.items(), strict=True)
    }


def count_sql(table: str) -> str:
    """Return the SELECT of a table's rows, users and items."""
    return f"SELECT count(*), count(DISTINCT user_id), count(DISTINCT item_id) FROM {table}"
