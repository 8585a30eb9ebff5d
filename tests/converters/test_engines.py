"""Spark gives the rows of DuckDB, and so the same bytes."""

import shutil

import pytest
from hypothesis import HealthCheck, example, given, settings

from recbole_session.converters.conversion import run_conversion
from recbole_session.converters.thresholds import Thresholds
from recbole_session.errors import InputError
from tests.converters.test_sql import rows_strategy, run, thresholds_strategy


@pytest.fixture(scope="module")
def spark():
    pytest.importorskip("pyspark", exc_type=ImportError)
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.sql.shuffle.partitions", "2")
    builder = builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.sql.codegen.wholeStage", "false")  # compiling takes longer than these rows
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    session = builder.getOrCreate()
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
