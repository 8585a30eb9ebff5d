"""DuckDB and Spark give the rows of the default pipeline, and so the same bytes."""

import shutil

import pytest
from hypothesis import HealthCheck, example, given, settings

from recbole_session.converters.conversion import _load_engine, run_conversion
from recbole_session.converters.pipeline import prepare_in_memory
from recbole_session.converters.thresholds import Thresholds
from recbole_session.errors import InputError
from tests.converters.test_pipeline import coded, rows_strategy, thresholds_strategy, tuples


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


def outcome(engine, rows, thresholds, scratch):
    prepared = _load_engine(engine)(coded(rows), thresholds, scratch)
    return tuples(prepared, rows), [tuple(count) for count in prepared.counts]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows_strategy, thresholds_strategy)
def test_duckdb_agrees(tmp_path_factory, rows, thresholds):
    pytest.importorskip("duckdb", exc_type=ImportError)
    expected = prepare_in_memory(coded(rows), thresholds, None)
    result, counts = outcome("duckdb", rows, thresholds, tmp_path_factory.mktemp("scratch"))
    assert result == tuples(expected, rows)
    assert counts == [tuple(count) for count in expected.counts]


TIED = [(n % 5, n * n % 7, 3.0 + n % 2, n * n % 40) for n in range(200)]


@settings(max_examples=1, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows_strategy, thresholds_strategy)
@example(TIED, Thresholds(3.0, 3, 3, 30, 2, 2, 1))
def test_spark_agrees(spark, tmp_path_factory, rows, thresholds):
    expected = prepare_in_memory(coded(rows), thresholds, None)
    result, counts = outcome("spark", rows, thresholds, tmp_path_factory.mktemp("scratch"))
    assert result == tuples(expected, rows)
    assert counts == [tuple(count) for count in expected.counts]
    assert result or rows != TIED


def test_duckdb_on_the_real_rows(ml_1m_part, tmp_path):
    pytest.importorskip("duckdb", exc_type=ImportError)
    for flags in ({}, {"all_users": True, "session_gap": 3600}):
        default, other = (
            run_conversion("ml-1m", ml_1m_part, tmp_path / engine, engine=engine, **flags)
            for engine in ("pandas", "duckdb")
        )
        assert default.path.read_bytes() == other.path.read_bytes()
        assert default.card["counts"] == other.card["counts"]


def test_spark_on_the_real_rows(spark, ml_1m_part, tmp_path):
    default, other = (
        run_conversion("ml-1m", ml_1m_part, tmp_path / engine, engine=engine) for engine in ("pandas", "spark")
    )
    assert default.path.read_bytes() == other.path.read_bytes()
    assert default.card["counts"] == other.card["counts"]


@pytest.mark.parametrize("engine", ["duckdb", "spark"])
def test_a_missing_engine_is_one_sentence(engine, monkeypatch, tmp_path):
    import sys

    monkeypatch.delitem(sys.modules, f"recbole_session.converters.{engine}_engine", raising=False)
    for package in ("duckdb", "pyspark", "pyspark.errors", "pyspark.sql", "pyspark.storagelevel"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"--engine={engine} needs .*recbole-session\\[{engine}\\]"):
        run_conversion("ml-100k", None, tmp_path / "out", engine=engine)
    assert not (tmp_path / "out").exists()
