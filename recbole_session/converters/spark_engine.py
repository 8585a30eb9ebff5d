"""The preprocessing in Spark: a cluster's engine, in local mode where no cluster is configured.

The driver reads and codes the raw file and stages it as Parquet beside the datasets, so on a cluster
DATA_PATH must be storage that the executors see. Which cluster is Spark's own business: spark-submit,
``spark-defaults.conf`` or a session that is already running.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recbole_session.converters.pipeline import Count, Log, Prepared
from recbole_session.converters.sql import RAW, RESULT, count_sql, preprocessing_sql
from recbole_session.converters.thresholds import Thresholds
from recbole_session.errors import InputError

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession
    from pyspark.storagelevel import StorageLevel
except ImportError as missing:
    raise InputError("--engine=spark needs pyspark: pip install 'recbole-session[spark]'.") from missing

_SCHEMA = pa.schema(
    [("line", pa.int64()), ("user_id", pa.int32()), ("item_id", pa.int32()), ("rating", pa.float64()),
     ("seconds", pa.int64())]
)  # fmt: skip


def prepare_with_spark(logs: Iterator[Log], thresholds: Thresholds, scratch: Path) -> Prepared:
    """Run the preprocessing as SQL on Spark; every step is kept, in memory or on disk, until counted."""
    staged, result = scratch / "rows.parquet", scratch / "result.parquet"
    counts = [_stage(logs, staged)]
    running = SparkSession.getActiveSession()
    spark = running or _new_session()
    try:
        spark.read.parquet(str(staged)).createOrReplaceTempView(RAW)
        kept = []
        for step, select in preprocessing_sql(thresholds).items():
            frame = spark.sql(select).persist(StorageLevel.MEMORY_AND_DISK)
            frame.createOrReplaceTempView(step)
            rows, users, items = spark.sql(count_sql(step)).collect()[0]
            counts.append(Count(step, rows, users, items))
            kept.append(frame)
        spark.sql(RESULT).write.parquet(str(result))
        for frame in kept:
            frame.unpersist()
    except PySparkException as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"--engine=spark gave up ({reason}): see Spark's log.") from error
    finally:
        if running is None:
            spark.stop()
    return Prepared(counts, _fetch(result))


def _new_session() -> Any:
    builder = SparkSession.builder.appName("recbole-session convert")
    spark = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    if str(spark.sparkContext.master).startswith("local"):  # where 200 partitions, the default, are 200 tiny tasks
        spark.conf.set("spark.sql.shuffle.partitions", 2 * spark.sparkContext.defaultParallelism)
    return spark


def _stage(logs: Iterator[Log], path: Path) -> Count:
    n_rows = n_users = n_items = 0
    with pq.ParquetWriter(path, _SCHEMA) as writer:
        for log in logs:
            lines = np.arange(n_rows, n_rows + len(log.users))
            columns = [lines, log.users, log.items, log.ratings, log.times]
            writer.write_table(pa.table(columns, schema=_SCHEMA))
            n_rows += len(log.users)
            n_users = max(n_users, int(log.users.max()) + 1)
            n_items = max(n_items, int(log.items.max()) + 1)
    return Count("read", n_rows, n_users, n_items)


def _fetch(result: Path) -> Iterator[Log]:
    for part in sorted(result.glob("part-*.parquet")):  # Spark numbers parts in the order of the rows
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches():
                names = ("user_id", "item_id", "rating", "seconds", "session")
                yield Log(*(batch.column(name).to_numpy() for name in names))
