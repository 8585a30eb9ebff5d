"""Spark gives the rows of DuckDB, and so the same bytes."""

import json
import shutil
import signal

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings

from recbole_session.converters.columns import Columns
from recbole_session.converters.conversion import run_conversion
from recbole_session.converters.preprocessing import Thresholds
from recbole_session.errors import InputError
from tests.converters.test_sql import rows_strategy, run, thresholds_strategy


@pytest.fixture(scope="module")
def spark():
    pytest.importorskip("pyspark", exc_type=ImportError)
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    from pyspark.sql import SparkSession

    # Two executors, each a process of its own with 1 GiB: only what Spark sends travels between them and the driver.
    builder = SparkSession.builder.master("local-cluster[2,1,1024]").config("spark.sql.shuffle.partitions", "2")
    builder = builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.sql.codegen.wholeStage", "false")  # compiling takes longer than these rows
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    # More rows than this cannot come to the driver: Spark stops the job.
    builder = builder.config("spark.driver.maxResultSize", "1m")
    handler = signal.getsignal(signal.SIGINT)
    session = builder.getOrCreate()
    signal.signal(signal.SIGINT, handler)  # Spark leaves one of its own to the tests that follow
    yield session
    session.stop()


TIED = [(str(n % 5), str(n * n % 7), 3.0 + n % 2, n * n % 40) for n in range(200)]


@settings(max_examples=1, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows_strategy, thresholds_strategy)
@example(TIED, Thresholds(3.0, 3, 3, 30, 2, 2, 1))
def test_spark_agrees(spark, tmp_path_factory, rows, thresholds):
    from recbole_session.converters.spark_engine import prepare_with_spark

    counts, result = run(rows, thresholds, prepare_with_spark, tmp_path_factory.mktemp("scratch"))
    assert (counts, result) == run(rows, thresholds)
    assert result or rows != TIED


def test_spark_on_the_real_rows(spark, ml_1m_part, tmp_path):
    default, other = (
        run_conversion("ml-1m", ml_1m_part, tmp_path / engine, engine=engine) for engine in ("duckdb", "spark")
    )
    assert default.path.read_bytes() == other.path.read_bytes()
    assert default.card["counts"] == other.card["counts"]


def test_a_missing_engine_is_one_sentence(monkeypatch, tmp_path):
    import sys

    monkeypatch.delitem(sys.modules, "recbole_session.converters.spark_engine", raising=False)
    for package in ("pyspark", "pyspark.errors", "pyspark.sql", "pyspark.storagelevel"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"--engine=spark needs .*recbole-session\[spark\]"):
        run_conversion("ml-100k", None, tmp_path / "out", engine="spark")
    assert not (tmp_path / "out").exists()


# ---- Spark reads the log by itself


def both(raw, tmp_path, columns, **options):
    """Convert by DuckDB and by Spark; the bytes and the cards' parts that must agree."""
    options = {"all_users": True, "min_item_rows": 1, "skip_bad": True, **options}
    found = []
    for engine in ("duckdb", "spark"):
        made = run_conversion(
            "generic", raw, tmp_path / engine, dataset="log", engine=engine, columns=columns, **options
        )
        card = made.card
        found.append((made.path.read_text(), card["lines"], card["counts"], card["output"]["sha256"]))
    return found


def random_log(n_rows=3000):
    return [
        (f"u{n * n % 97}", f"i {n * n * n % 31}", (n * 7919) % 100_000, n % 9 / 2, f"s{n % 97}-{n // 500}")
        for n in range(n_rows)
    ]


def spark_read(monkeypatch):
    """Count the conversions in which Spark reads."""
    from recbole_session.converters import spark_engine

    calls, read = [], spark_engine.convert_with_spark
    monkeypatch.setattr(spark_engine, "convert_with_spark", lambda *given: calls.append(given) or read(*given))
    return calls


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_spark_reads_files_as_duckdb_does(spark, tmp_path, monkeypatch, kind):
    """Several splits of several files, some with malformed lines, whose numbers and reasons agree."""
    calls = spark_read(monkeypatch)
    spark.conf.set("spark.sql.files.maxPartitionBytes", "20000")
    folder = tmp_path / "raw [1]"
    folder.mkdir()
    names = ["user", "item", "time", "stars", "visit"]
    rows = random_log()
    for place in range(2):
        some = rows[place * 1000 : (place + 2) * 1000 + 1]
        if kind == "csv":
            lines = [",".join(names), *(",".join(map(str, row)) for row in some)]
            lines[3] = '"u,1","a ""b""",5,1,x'
            lines[700 + place :: 900] = ["u,i,x,1,s", "u,i", "", " ,i,1,1,s"][: len(lines[700 + place :: 900])]
            (folder / f"part {place}.csv").write_text("\n".join(lines) + "\n")
        elif kind == "jsonl":
            lines = [json.dumps(dict(zip(names, row, strict=True))) for row in some]
            lines[700 + place :: 900] = ["{}", "[1]", "", "{"][: len(lines[700 + place :: 900])]
            (folder / f"part {place}.jsonl").write_text("\n".join(lines) + "\n")
        else:
            frame = pd.DataFrame(some, columns=names)
            frame.loc[700, "user"] = None
            frame["time"] = pd.to_datetime(frame["time"], unit="s")
            frame.to_parquet(folder / f"part {place}.parquet", row_group_size=300, coerce_timestamps="us")
    columns = Columns("user", "item", "time", "stars", "visit")
    default, other = both(folder, tmp_path, columns)
    assert len(calls) == 1
    assert default[1]["malformed"] >= 2
    assert default == other
    assert len(default[0].splitlines()) > 3000


def test_the_driver_holds_no_rows(spark, tmp_path):
    """Results of more than 1 MiB stop a job of this session; the log has more than twice as much."""
    from py4j.protocol import Py4JJavaError

    spark.conf.unset("spark.sql.files.maxPartitionBytes")
    rows = random_log(100_000)
    raw = tmp_path / "log.csv"
    raw.write_text("user,item,time,stars,visit\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    with pytest.raises(Py4JJavaError, match="maxResultSize"):
        spark.read.text(str(raw)).collect()
    default, other = both(raw, tmp_path, Columns("user", "item", "time", "stars", "visit"))
    assert default == other


def test_a_log_of_any_file_system_is_for_spark(tmp_path):
    columns = Columns("user", "item", "time", format="csv")
    with pytest.raises(InputError, match=r"--raw s3a://bucket/log.csv is for --engine=spark"):
        run_conversion("generic", "s3a://bucket/log.csv", tmp_path, dataset="log", columns=columns)
    pytest.importorskip("pyspark", exc_type=ImportError)
    columns = Columns("user", "item", "time", where="true")
    with pytest.raises(InputError, match=r"need a local file"):
        run_conversion("generic", "s3a://bucket/log.csv", tmp_path, dataset="log", columns=columns, engine="spark")
