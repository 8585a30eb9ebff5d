"""The preprocessing as SQL, one statement a step: the only statement of it. DuckDB and Spark both run this text."""

from __future__ import annotations

from dataclasses import asdict

from recbole_session.converters.thresholds import Thresholds

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
