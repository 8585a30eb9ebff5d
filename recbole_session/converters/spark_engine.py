"""The preprocessing in Spark: a cluster's engine, in local mode where no cluster is configured.

Executors read CSV, JSON lines and Parquet by themselves (`convert_with_spark`). Where the log needs DuckDB to be read,
`prepare_with_spark` takes over from there. Rows are staged as Parquet beside the datasets, so on a cluster DATA_PATH
must be storage that the executors see. Which cluster is Spark's own business: spark-submit, ``spark-defaults.conf`` or
a session that is already running.
"""

import codecs
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import duckdb
import pandas as pd

from recbole_session.converters.columns import Columns, escape_token, number, seconds_of
from recbole_session.converters.engine import Count
from recbole_session.converters.generic import GenericReader, parquet_use
from recbole_session.converters.lines import REPORTED, BadLine, LineCheck, shown, sql_path, sql_text
from recbole_session.converters.preprocessing import RAW, RESULT, Thresholds, count_sql, preprocessing_sql
from recbole_session.converters.sources import Source
from recbole_session.errors import InputError, needs

with needs("--engine=spark", "pyspark", "spark"):
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession
    from pyspark.storagelevel import StorageLevel


# What a line becomes: one without a user is blank, a header, or malformed, which has a reason.
_ROWS = (
    "file STRING, start BIGINT, id BIGINT, user_id STRING, item_id STRING, rating DOUBLE, seconds BIGINT, "
    "own_session STRING, reason STRING"
)


def prepare_with_spark(
    connection: duckdb.DuckDBPyConnection, thresholds: Thresholds, own_sessions: bool, scratch: Path
) -> list[Count]:
    """Run the preprocessing on Spark, as `engine.prepare_with_duckdb` does; the result is a view of Spark's files."""
    staged, result = scratch / "rows.parquet", scratch / "result.parquet"
    connection.execute(f"COPY (SELECT * FROM {RAW}) TO {sql_text(str(staged))} (FORMAT parquet)")
    with _session() as spark:
        spark.read.parquet(str(staged)).createOrReplaceTempView(RAW)
        counts = _prepare(spark, thresholds, own_sessions, "SELECT * FROM sessions", result)
    connection.execute(f"CREATE VIEW sessions AS SELECT * FROM read_parquet({_parts(result)})")
    return counts


def convert_with_spark(
    raw: list[str], columns: Columns, thresholds: Thresholds, check: LineCheck, scratch: Path
) -> tuple[list[Count], str, int]:
    """Read, check and prepare a log in the executors; only counts and some malformed lines come here.

    A line is a record: a CSV record with a line end in quotes makes malformed lines. ``raw`` are files, folders or
    patterns of any file system that Spark knows, such as ``s3a://bucket/logs/*.csv.gz``; ``columns`` are without SQL of
    DuckDB's and without titles, UTF-8. Returns the counts, the SELECT, for DuckDB, of the rows that
    `preprocessing.RESULT` describes, in order, and the number of sessions.
    """
    staged, result = scratch / "rows.parquet", scratch / "result.parquet"
    with _session() as spark:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        _read(spark, raw, columns).write.parquet(str(staged))
        spark.read.parquet(str(staged)).createOrReplaceTempView("staged")
        rows = spark.sql(
            "SELECT file, start, min(id) AS first, count(*) AS n_lines, count(user_id) AS good, count(reason) AS bad "
            "FROM staged GROUP BY file, start"
        ).collect()
        rows.sort(key=lambda row: (PurePosixPath(unquote(row.file)), row.start))
        splits = pd.DataFrame(rows, columns=["file", "start", "first", "n_lines", "good", "bad"])
        before = splits["n_lines"].cumsum() - splits["n_lines"]
        splits["offset"] = before - splits["first"]
        splits["begin"] = before.groupby(splits["file"]).transform("min")
        places = splits[["file", "start", "offset", "begin"]]
        schema = "file STRING, start BIGINT, offset BIGINT, begin BIGINT"
        spark.createDataFrame(places.to_dict("records"), schema).createOrReplaceTempView("splits")
        hint = "/*+ BROADCAST(splits) */"  # or Spark may take the rows for the smaller side, through the driver
        numbered = "staged JOIN splits USING (file, start)"
        spark.sql(
            f"SELECT {hint} id + offset AS line, user_id, item_id, rating, seconds, own_session FROM {numbered} "
            "WHERE user_id IS NOT NULL"
        ).createOrReplaceTempView(RAW)
        bad = spark.sql(
            f"SELECT {hint} file, id + offset - begin + 1 AS line, reason FROM {numbered} WHERE reason IS NOT NULL "
            f"ORDER BY id + offset LIMIT {REPORTED}"
        ).collect()
        for file, of_file in splits.groupby("file", sort=False):
            check.name = PurePosixPath(unquote(file)).name
            named = [BadLine(row.line, row.reason) for row in bad if row.file == file]
            check.add(int(of_file["good"].sum()), int(of_file["bad"].sum()), named)
        check.finish()
        counts = _prepare(spark, thresholds, columns.session is not None, RESULT, result)
        n_sessions = spark.read.parquet(str(result)).agg({"session_id": "max"}).collect()[0][0]
    return counts, f"SELECT * FROM read_parquet({_parts(result)})", int(n_sessions or 0)


def _read(spark: Any, raw: list[str], columns: Columns) -> Any:
    """Return the lines of a log, each as `_ROWS` says; nothing is read yet but the first line."""
    header = None
    if columns.format == "parquet":
        frame = spark.read.parquet(*raw)
        kinds = dict(frame.dtypes)
        GenericReader(Source(Path("log.parquet")), columns).check_columns(list(kinds))
        values = []
        for role, name in columns.wanted.items():
            value, use = "`" + name.replace("`", "``") + "`", parquet_use(role, kinds[name])
            if use == "moment":
                value, columns = f"floor(CAST(CAST({value} AS TIMESTAMP) AS DOUBLE))", replace(columns, time_unit="s")
            values.append(f"CAST({'NULL' if use == 'none' else value} AS STRING)")
        record = f"array({', '.join(values)})"
    else:
        frame, record = spark.read.text(raw), "CAST(value AS BINARY)"  # text that is not UTF-8 has to come as it is
    place = (
        "_metadata.file_path AS file",
        "_metadata.file_block_start AS start",
        "monotonically_increasing_id() AS id",
    )
    frame = frame.selectExpr(f"{record} AS value", *place)
    if columns.format == "csv":
        first = frame.where("start = 0").select("file", "value").take(1)
        if not first:
            raise InputError(f"{raw[0]} holds no rows: give the file as it was published.")
        reader = GenericReader(Source(Path(PurePosixPath(unquote(first[0].file)).name)), columns)
        header = reader.csv_header([bytes(first[0].value).decode("utf-8-sig", "replace")])[0]
    return frame.mapInPandas(partial(_check_rows, columns=columns, header=header), _ROWS)


def _check_rows(frames: Iterator[Any], columns: Columns, header: list[str] | None) -> Iterator[Any]:
    """Check lines in an executor, in their order: the same words and rules as for DuckDB's malformed lines."""
    reader, last = GenericReader(Source(Path("log.csv")), columns), None
    for frame in frames:
        rows = []
        for value, file, start in zip(frame["value"], frame["file"], frame["start"], strict=True):
            is_first, last = start == 0 and (file, start) != last, (file, start)
            try:
                values = _values(reader, value, columns, header, is_first)
                rows.append({} if values is None else _row(reader, values, columns))
            except ValueError as error:
                rows.append({"reason": str(error)})
        names = ["user_id", "item_id", "rating", "seconds", "own_session", "reason"]
        checked = pd.DataFrame(rows, columns=names, dtype=object)
        checked["rating"] = checked["rating"].astype("float64")
        checked["seconds"] = checked["seconds"].astype("Int64")
        yield pd.concat([frame[["file", "start", "id"]], checked], axis=1)


def _values(
    reader: GenericReader, value: Any, columns: Columns, header: list[str] | None, is_first: bool
) -> list[Any] | None:
    """Return what a line holds for each wanted column, None for a header or a blank line."""
    if columns.format == "parquet":
        return list(value)
    line = bytes(value)
    if is_first and columns.format == "csv" and not columns.header:
        if reader.csv_header([line.decode("utf-8-sig", "replace")])[0] != header:
            raise ValueError(f"is another header than {shown(','.join(header or []))}")
        return None
    if is_first:
        line = line.removeprefix(codecs.BOM_UTF8)
    if columns.format == "jsonl":
        return reader.json_values(line) if line.strip() else None
    return reader.csv_line_values(line, header or [])


def _row(reader: GenericReader, values: list[Any], columns: Columns) -> dict[str, Any]:
    if reason := reader.reason(values):
        raise ValueError(reason)
    record = dict(zip(columns.wanted, values, strict=True))
    return {
        "user_id": escape_token(str(record["user"])),
        "item_id": escape_token(str(record["item"])),
        "rating": number(record.get("rating", 1.0)),
        "seconds": math.floor(seconds_of(record["time"], columns.time_unit) or 0),
        "own_session": str(record["session"]) if "session" in record else None,
    }


def _prepare(spark: Any, thresholds: Thresholds, own_sessions: bool, result: str, path: Path) -> list[Count]:
    """Run the steps from the view `RAW` on, and write ``result``, a SELECT on the view ``sessions``, to a folder."""
    counts = [Count("read", *spark.sql(count_sql(RAW)).collect()[0])]
    kept = []
    for step, select in preprocessing_sql(thresholds, own_sessions).items():
        frame = spark.sql(select).persist(StorageLevel.MEMORY_AND_DISK)
        frame.createOrReplaceTempView(step)
        counts.append(Count(step, *spark.sql(count_sql(step)).collect()[0]))
        kept.append(frame)
    spark.sql(result).write.parquet(str(path))
    for frame in kept:
        frame.unpersist()
    return counts


def _parts(path: Path) -> str:
    """Return the files of a Parquet folder, in order, as SQL of DuckDB."""
    return f"{sql_path(path)[:-1]}/part-*.parquet'"


@contextmanager
def _session() -> Iterator[Any]:
    """Give the Spark session that is active, or a new one for the block; an `InputError` if Spark gives up."""
    running = SparkSession.getActiveSession()
    builder = SparkSession.builder.appName("recbole-session convert").config("spark.ui.showConsoleProgress", "false")
    spark: Any = running or builder.getOrCreate()
    context = spark.sparkContext
    if context.master.startswith("local"):
        if running is None:  # 200 partitions, the default, are 200 tiny tasks
            spark.conf.set("spark.sql.shuffle.partitions", 2 * context.defaultParallelism)
        if "PYSPARK_PYTHON" not in os.environ:
            context.pythonExec = sys.executable  # which has what the executors import
    try:
        yield spark
    except (PySparkException, Py4JError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"--engine=spark gave up ({reason}): see Spark's log.") from error
    finally:
        if running is None:
            spark.stop()
