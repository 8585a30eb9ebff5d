"""DuckDB reads the raw files, does the preprocessing and writes the atomic file: out of core, on all cores."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from recbole_session.converters.columns import MACROS, escape_token
from recbole_session.converters.lines import REPORTED, BadLine, LineCheck, sql_text
from recbole_session.converters.preprocessing import RAW, RESULT, Thresholds, count_sql, preprocessing_sql
from recbole_session.errors import InputError

# Of DuckDB's own buffers; what does not fit goes to files (measured: results/convert.md).
MEMORY_LIMIT = "1200MB"
EVERY_ROW = Thresholds(min_sessions=1, min_rows_per_session=1)
_ATOMIC = "(FORMAT csv, HEADER true, DELIMITER '\t', QUOTE '', ESCAPE '')"


class Reader:
    """One format: how DuckDB reads a file of it, and how to name what it cannot read."""

    id_type = "VARCHAR"
    computed = False  # whether SQL of the user's own works on rows

    def select(self, scratch: Path) -> str:
        """Return the SELECT of the columns of the table ``raw``, in the file's order.

        Blank lines and malformed lines are rows without a user. What has to be unpacked first goes into ``scratch``.
        """
        raise NotImplementedError

    def faults(self, rows: list[int], rejected: list[int]) -> list[BadLine]:
        """Name malformed lines, see `lines.line_faults`; none where `select` has told a `LineCheck` of them."""
        del rows, rejected
        return []


class Count(NamedTuple):
    """What is left after a step."""

    step: str
    rows: int
    users: int
    items: int


@contextmanager
def open_database(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database in memory that spills to ``scratch``; an `InputError` if DuckDB gives up, as on a full disk."""
    with duckdb.connect(
        config={"memory_limit": MEMORY_LIMIT, "temp_directory": str(scratch / "spilled")}
    ) as connection:
        connection.create_function("escape_token", escape_token, ["VARCHAR"], "VARCHAR")
        try:
            for macro in MACROS:
                connection.execute(macro)
            yield connection
        except duckdb.Error as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"DuckDB gave up ({reason}): free some disk under --data_path {scratch.parent}, or choose another."
            ) from error
        except RuntimeError as error:  # how DuckDB reports a Ctrl-C during a query
            if "interrupted" not in str(error):
                raise
            raise KeyboardInterrupt from error


def create_raw_table(connection: duckdb.DuckDBPyConnection, reader: Reader) -> None:
    """Create the table that `load_file` fills and the view of it that the preprocessing reads."""
    connection.execute(
        f"CREATE TABLE raw (user_id {reader.id_type}, item_id {reader.id_type}, rating DOUBLE, seconds BIGINT, "
        "own_session VARCHAR, title VARCHAR, malformed BOOLEAN)"
    )
    columns = "rowid AS line, user_id, item_id, rating, seconds, own_session"
    connection.execute(f"CREATE VIEW {RAW} AS SELECT {columns} FROM raw WHERE user_id IS NOT NULL")


def load_file(connection: duckdb.DuckDBPyConnection, reader: Reader, scratch: Path, check: LineCheck) -> None:
    """Append a file's rows to the table ``raw``; ``check`` gets the malformed lines."""
    connection.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
    select = reader.select(scratch)
    (start,) = _row(connection, "SELECT count(*) FROM raw")
    if reader.computed:  # it may hold a join, which mixes the rows of several threads up
        connection.execute("SET threads = 1")
    try:
        connection.execute(f"INSERT INTO raw {select}")
    except (duckdb.ProgrammingError, duckdb.DataError) as error:
        if not reader.computed:
            raise
        reason = str(error).splitlines()[0]
        raise InputError(f"{check.name}: --where or a column that begins with '=' does not work ({reason}).") from error
    connection.execute("RESET threads")
    good, wrong, rows = _row(
        connection,
        f"SELECT count(user_id), count(*) FILTER (malformed), min(rowid - {start}, {REPORTED}) FILTER (malformed) "
        f"FROM raw WHERE rowid >= {start}",
    )
    rejects, rejected = 0, None
    if connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'reject_errors'").fetchall():
        lines = "SELECT DISTINCT line FROM reject_errors"
        rejects, rejected = _row(connection, f"SELECT count(*), min(line, {REPORTED}) FROM ({lines})")
    check.add(good, wrong + rejects, reader.faults(rows or [], rejected or []) if wrong + rejects else [])


def preview(
    connection: duckdb.DuckDBPyConnection, thresholds: Thresholds, own_sessions: bool
) -> tuple[list[list[str]], int]:
    """Return the first five rows as they were read, as text, and how many sessions all rows would make."""
    rows = connection.execute(
        f"SELECT user_id, item_id, rating, seconds, CAST(make_timestamp(seconds * 1000000) AS VARCHAR), own_session "
        f"FROM {RAW} ORDER BY line LIMIT 5"
    ).fetchall()
    sessions = preprocessing_sql(replace(EVERY_ROW, session_gap=thresholds.session_gap), own_sessions)["sessions"]
    connection.execute(f"CREATE VIEW max_rows_per_user AS SELECT * FROM {RAW}")
    connection.execute(f"CREATE TABLE sessions AS {sessions}")
    return [["" if value is None else str(value) for value in row] for row in rows], count_sessions(connection)


def prepare_with_duckdb(
    connection: duckdb.DuckDBPyConnection, thresholds: Thresholds, own_sessions: bool, scratch: Path
) -> list[Count]:
    """Run the preprocessing; the table ``sessions`` has the rows, and the counts after each step come back."""
    del scratch  # other engines stage files there
    counts = [Count("read", *_row(connection, count_sql(RAW)))]
    for step, select in preprocessing_sql(thresholds, own_sessions).items():
        connection.execute(f"CREATE TABLE {step} AS {select}")
        connection.execute(f"DROP TABLE IF EXISTS {counts[-1].step}")  # the step before, but for the raw rows
        counts.append(Count(step, *_row(connection, count_sql(step))))
    return counts


def count_sessions(connection: duckdb.DuckDBPyConnection) -> int:
    """Return how many sessions the table ``sessions`` has."""
    (n_sessions,) = _row(
        connection, "SELECT sum(last) FROM (SELECT max(session) AS last FROM sessions GROUP BY user_id)"
    )
    return int(n_sessions or 0)


def write_inter(connection: duckdb.DuckDBPyConnection, path: Path, result: str = RESULT) -> None:
    """Write the rows of ``result``, a SELECT, as an ``.inter`` file, in a stream."""
    names = ("user_id:token", "item_id:token", "rating:float", "timestamp:float", "session_id:token")
    columns = ", ".join(f'{name.partition(":")[0]} AS "{name}"' for name in names)
    connection.execute(f"COPY (SELECT {columns} FROM ({result})) TO {sql_text(str(path))} {_ATOMIC}")


def write_items(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Write the title of each item of the table ``sessions`` as an ``.item`` file: its first in the raw file."""
    connection.execute(
        rf"""COPY (
            SELECT item_id AS "item_id:token",
                coalesce(first(translate(regexp_replace(title, '[\s\x00-\x1f\x7f]+', ' ', 'g'), chr(34), chr(39))
                    ORDER BY line) FILTER (trim(title) <> ''), '') AS "title:token_seq"
            FROM (SELECT rowid AS line, * FROM raw) WHERE item_id IN (SELECT item_id FROM sessions)
            GROUP BY item_id ORDER BY min(line)
        ) TO {sql_text(str(path))} {_ATOMIC}"""
    )


def write_titles(connection: duckdb.DuckDBPyConnection, titles: Mapping[str, str], path: Path) -> None:
    """Write the ``titles``, by item, of the items of the table ``sessions`` in the form of `write_items`."""
    lines = ["item_id:token\ttitle:token_seq"]
    for (item,) in connection.execute("SELECT DISTINCT item_id FROM sessions ORDER BY item_id").fetchall():
        title = re.sub(r"[\s\x00-\x1f\x7f]+", " ", titles.get(str(item), "")).strip()
        lines.append(f"{item}\t{title}".replace('"', "'"))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _row(connection: duckdb.DuckDBPyConnection, select: str) -> tuple[Any, ...]:
    """Return the one row of a SELECT."""
    return connection.execute(select).fetchall()[0]
