"""The preprocessing as SQL that DuckDB and Spark both read, one statement a step.

Users and items are the int32 codes of `tokens.Vocabulary`, so no engine compares text, and the order of
users is the order of their codes: by first appearance in the raw file.
"""

from __future__ import annotations

from dataclasses import asdict

from recbole_session.converters.thresholds import Thresholds

RAW = "raw_rows"  # line BIGINT, user_id INT, item_id INT, rating DOUBLE, seconds BIGINT
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
        SELECT {columns} FROM (
            SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY seconds DESC, line DESC) AS recency
            FROM {previous}) AS ranked
        WHERE recency <= {max_rows_per_user}""",
    "sessions": """
        WITH gaps AS (
            SELECT *, seconds - lag(seconds) OVER (PARTITION BY user_id ORDER BY seconds, line) AS silence
            FROM {previous}),
        numbered AS (
            SELECT *, 1 + count(CASE WHEN silence > {session_gap} THEN 1 END) OVER (
                PARTITION BY user_id ORDER BY seconds, line ROWS UNBOUNDED PRECEDING) AS session
            FROM gaps),
        sized AS (
            SELECT *, count(*) OVER (PARTITION BY user_id, session) AS session_rows FROM numbered),
        judged AS (
            SELECT *, max(session) OVER (PARTITION BY user_id) AS sessions,
                min(session_rows) OVER (PARTITION BY user_id) AS shortest
            FROM sized)
        SELECT {columns}, session FROM judged
        WHERE sessions >= {min_sessions} AND shortest >= {min_rows_per_session}""",
}
RESULT = "SELECT user_id, item_id, rating, seconds, session FROM sessions ORDER BY user_id, seconds, line"


def preprocessing_sql(thresholds: Thresholds) -> dict[str, str]:
    """Return step -> SELECT; each reads the table named like the step before, the first one `RAW`."""
    numbers = {**asdict(thresholds), "min_rating": _sql_float(thresholds.min_rating)}
    names = [RAW, *_STEPS]
    return {
        step: select.format(previous=previous, columns=_COLUMNS, **numbers)
        for previous, (step, select) in zip(names[:-1], _STEPS.items(), strict=True)
    }


def count_sql(table: str) -> str:
    """Return the SELECT of a table's rows, users and items."""
    return f"SELECT count(*), count(DISTINCT user_id), count(DISTINCT item_id) FROM {table}"


def _sql_float(value: float) -> str:
    return "-Infinity" if value == float("-inf") else repr(float(value))
