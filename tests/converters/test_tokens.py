"""Tokens survive the reader that RecBole uses; codes follow the first appearance."""

import io
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_session.converters.rows import Rows
from recbole_session.converters.tokens import RESERVED, Vocabulary, drop_bad_ids, escape_token


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


def test_codes_over_blocks():
    vocabulary = Vocabulary()
    assert vocabulary.encode(np.array([7, 5, 7])).tolist() == [0, 1, 0]
    assert vocabulary.encode(np.array([9, 5])).tolist() == [2, 1]
    assert vocabulary.tokens().tolist() == [b"7", b"5", b"9"]
    assert len(vocabulary) == 3


def test_bad_ids():
    users = np.array(["a", "", "b", "x" * 1001, "c"], dtype=object)
    items = np.array(["1", "1", " ", "1", "2"], dtype=object)
    five = np.arange(5)
    rows, bad = drop_bad_ids(Rows(users, items, np.ones(5), five, five + 10))
    assert rows.users.tolist() == ["a", "c"]
    assert [(line, reason.split("'")[0] + reason.split("'")[-1]) for line, reason in bad] == [
        (11, "user  is empty"),
        (12, "item  is empty"),
        (13, "user  is longer than 1000 bytes"),
    ]
