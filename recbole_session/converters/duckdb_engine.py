"""The preprocessing in DuckDB: embedded, out of core, for logs that outgrow memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_session.converters.pipeline import Count, Log, Prepared
from recbole_session.converters.sql import RAW, RESULT, count_sql, preprocessing_sql
from recbole_session.converters.thresholds import Thresholds
from recbole_session.errors import InputError

try:
    import duckdb
except ImportError as missing:
    raise InputError("--engine=duckdb needs duckdb: pip install 'recbole-session[duckdb]'.") from missing

# Of DuckDB's own buffers; reading, ids and the allocator come on top (measured: results/convert.md).
MEMORY_LIMIT = "2GB"
VECTORS_PER_CHUNK = 32  # of 2,048 rows each, fetched at a time


def prepare_with_duckdb(logs: Iterator[Log], thresholds: Thresholds, scratch: Path) -> Prepared:
    """Run the preprocessing as SQL; what does not fit into memory goes to a database in ``scratch``."""
    try:
        connection = duckdb.connect(str(scratch / "rows.duckdb"))
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute("SET preserve_insertion_order = false")  # `line` keeps the order
        counts = [_insert(connection, logs)]
        previous = RAW
        for step, select in preprocessing_sql(thresholds).items():
            connection.execute(f"CREATE TABLE {step} AS {select}")
            connection.execute(f"DROP TABLE {previous}")
            rows, users, items = connection.sql(count_sql(step)).fetchall()[0]
            counts.append(Count(step, rows, users, items))
            previous = step
    except duckdb.Error as error:
        raise InputError(f"--engine=duckdb gave up ({str(error).splitlines()[0]}): free some disk.") from error
    return Prepared(counts, _fetch(connection))


def _insert(connection: duckdb.DuckDBPyConnection, logs: Iterator[Log]) -> Count:
    connection.execute(f"CREATE TABLE {RAW} (line BIGINT, user_id INT, item_id INT, rating DOUBLE, seconds BIGINT)")
    n_rows = n_users = n_items = 0
    for log in logs:
        lines = np.arange(n_rows, n_rows + len(log.users))
        frame = pd.DataFrame({"l": lines, "u": log.users, "i": log.items, "r": log.ratings, "t": log.times}, copy=False)
        connection.register("block", frame)
        connection.execute(f"INSERT INTO {RAW} SELECT * FROM block")
        connection.unregister("block")
        n_rows += len(log.users)
        n_users = max(n_users, int(log.users.max()) + 1)
        n_items = max(n_items, int(log.items.max()) + 1)
    return Count("read", n_rows, n_users, n_items)


def _fetch(connection: duckdb.DuckDBPyConnection) -> Iterator[Log]:
    result = connection.execute(RESULT)
    while len(frame := result.fetch_df_chunk(VECTORS_PER_CHUNK)):
        columns = (frame[name].to_numpy() for name in ("user_id", "item_id", "rating", "seconds", "session"))
        yield Log(*columns)
    connection.close()
