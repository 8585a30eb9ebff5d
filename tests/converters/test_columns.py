"""Tokens survive the reader that RecBole uses, and DuckDB escapes them as Python does."""

import io
from urllib.parse import unquote

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_session.converters.columns import MACROS, RESERVED, escape_token, id_fault


def test_by_hand():
    assert escape_token("plain äöü 😀 [1]") == "plain äöü 😀 [1]"
    assert escape_token('a\tb\nc"d%') == "a%09b%0Ac%22d%25"
    assert escape_token("\u2028\x85\ud83d") == "%E2%80%A8%C2%85%ED%A0%BD"
    assert escape_token("NA") == "%4EA"
    assert escape_token("[PAD]") == "%5BPAD]"


@given(st.text() | st.sampled_from(sorted(RESERVED)))
def test_the_way_back(text):
    assert unquote(escape_token(text), errors="surrogatepass") == text


@pytest.mark.parametrize("engine", ["c", "python"])
@pytest.mark.parametrize("text", [*sorted(RESERVED), 'a"b', '"', "a\tb", "'", "#x", "\ufeffx", "x\x00", "\r"])
def test_pandas_reads_it_as_recbole_reads_files(engine, text):
    token = escape_token(text)
    frame = pd.read_csv(io.StringIO(f"user\titem\n{token}\t1\n"), sep="\t", dtype=str, engine=engine)
    assert frame["user"].tolist() == [token]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8")) | st.sampled_from(sorted(RESERVED)), max_size=20))
def test_duckdb_escapes_alike(texts):
    with duckdb.connect() as connection:
        connection.create_function("escape_token", escape_token, ["VARCHAR"], "VARCHAR")
        connection.execute(MACROS[0])
        rows = connection.execute("SELECT token(unnest(?))", [texts]).fetchall()
    assert [token for (token,) in rows] == [escape_token(text) for text in texts]


def test_ids_that_are_none():
    assert [id_fault(text) for text in ("", " ", "x" * 1001, "%" * 400, "a", "é" * 500)] == [
        "is empty", "is empty", "is longer than 1000 bytes", "is longer than 1000 bytes", None, None,
    ]  # fmt: skip
