"""The preprocessing in Spark: a cluster's engine, in local mode where no cluster is configured.

The rows are staged as Parquet beside the datasets, so on a cluster DATA_PATH must be storage that the executors see.
Which cluster is Spark's own business: spark-submit, ``spark-defaults.conf`` or a session that is already running.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from recbole_session.converters.engine import Count
from recbole_session.converters.lines import sql_path, sql_text
from recbole_session.converters.sql import RAW, count_sql, preprocessing_sql
from recbole_session.converters.thresholds import Thresholds
from recbole_session.errors import InputError

try:
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession
    from pyspark.storagelevel import StorageLevel
except ImportError as missing:
    raise InputError("--engine=spark needs pyspark: pip install 'recbole-session[spark]'.") from missing


def prepare_with_spark(
    connection: duckdb.DuckDBPyConnection, thresholds: Thresholds, own_sessions: bool, scratch: Path
) -> list[Count]:
    """Run the preprocessing on Spark, as `engine.prepare_with_duckdb` does; the result is a view of Spark's files."""
    staged, result = scratch / "rows.parquet", scratch / "result.parquet"
    connection.execute(f"COPY (SELECT * FROM {RAW}) TO {sql_text(str(staged))} (FORMAT parquet)")
    running = SparkSession.getActiveSession()
    spark = running or _new_session()
    counts = []
    try:
        spark.read.parquet(str(staged)).createOrReplaceTempView(RAW)
        counts.append(Count("read", *spark.sql(count_sql(RAW)).collect()[0]))
        kept = []
        for step, select in preprocessing_sql(thresholds, own_sessions).items():
            frame = spark.sql(select).persist(StorageLevel.MEMORY_AND_DISK)
            frame.createOrReplaceTempView(step)
            counts.append(Count(step, *spark.sql(count_sql(step)).collect()[0]))
            kept.append(frame)
        kept[-1].write.parquet(str(result))
        for frame in kept:
            frame.unpersist()
    except PySparkException as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"--engine=spark gave up ({reason}): see Spark's log.") from error
    finally:
        if running is None:
            spark.stop()
    parts = f"{sql_path(result)[:-1]}/part-*.parquet'"
    connection.execute(f"CREATE VIEW sessions AS SELECT * FROM read_parquet({parts})")
    return counts


def _new_session() -> Any:
    builder = SparkSession.builder.appName("recbole-session convert")
    spark = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    if str(spark.sparkContext.master).startswith("local"):  # where 200 partitions, the default, are 200 tiny tasks
        spark.conf.set("spark.sql.shuffle.partitions", 2 * spark.sparkContext.defaultParallelism)
    return spark
