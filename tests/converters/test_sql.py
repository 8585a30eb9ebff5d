"""The preprocessing against values worked out by hand, a slow reference and the published counts."""

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_session.converters import preprocessing
from recbole_session.converters.conversion import run_conversion
from recbole_session.converters.engine import create_raw_table, prepare_with_duckdb
from recbole_session.converters.preprocessing import DAY, RESULT, Thresholds
from recbole_session.data.stats import group_sizes, load_sequences, quartiles, table_rows
from tests.converters.reference_converter import numbered_within_user, prepare

EVERYTHING = Thresholds(
    min_item_rows=1, min_user_rows=1, max_rows_per_user=10**6, min_sessions=1, min_rows_per_session=1
)

rows_strategy = st.lists(
    st.tuples(
        st.sampled_from("01234"), st.sampled_from("012345"), st.sampled_from([0.5, 3.0, 4.0]), st.integers(0, 30)
    ),
    max_size=60,
)
thresholds_strategy = st.builds(
    Thresholds,
    min_rating=st.sampled_from([-np.inf, 3.0, 4.0, 5.0]),
    min_item_rows=st.integers(1, 4),
    min_user_rows=st.integers(1, 6),
    max_rows_per_user=st.integers(1, 12),
    session_gap=st.integers(0, 10),
    min_sessions=st.integers(1, 3),
    min_rows_per_session=st.integers(1, 3),
)


class Text:
    """A reader's part that matters to the raw table."""

    id_type = "VARCHAR"


def run(rows, thresholds, prepare=prepare_with_duckdb, scratch=Path("unused"), own_sessions=False):
    """Prepare rows (user, item, rating, time[, own session]); return the counts and the resulting rows."""
    with duckdb.connect() as connection:
        create_raw_table(connection, Text)
        if rows:
            values = [(*row[:4], row[4] if own_sessions else None, None, False) for row in rows]
            connection.executemany("INSERT INTO raw VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        counts = prepare(connection, thresholds, own_sessions, scratch)
        result = connection.execute(RESULT).fetchall()
    return counts, numbered_within_user(result)


def test_the_steps_by_hand():
    # user b appears first; item z is rare (1 row); user c then has 1 row; user d has a short session
    #        b: x0 y0 | x(2d) y(2d)      a: x0 z1 y(DAY) | x(3d) y(3d)      d: x0 y0 | x(2d)
    rows = [
        ("b", "x", 5.0, 0),
        ("a", "x", 5.0, 0),
        ("a", "z", 5.0, 1),
        ("a", "y", 5.0, DAY),  # a gap of exactly a day opens no session
        ("b", "y", 5.0, 0),
        ("c", "x", 5.0, 7),
        ("a", "y", 5.0, 3 * DAY),
        ("a", "x", 5.0, 3 * DAY),  # the same second: file order stays
        ("b", "x", 5.0, 2 * DAY),
        ("b", "y", 4.0, 2 * DAY),
        ("d", "x", 5.0, 0),
        ("d", "y", 5.0, 0),
        ("d", "x", 5.0, 2 * DAY),
        ("b", "y", 1.0, 9 * DAY),  # a low rating
    ]
    thresholds = Thresholds(min_rating=4.0, min_item_rows=2, min_user_rows=2)
    counts, result = run(rows, thresholds)
    assert result == [
        ("b", "x", 5.0, 0, 1),
        ("b", "y", 5.0, 0, 1),
        ("b", "x", 5.0, 2 * DAY, 2),
        ("b", "y", 4.0, 2 * DAY, 2),
        ("a", "x", 5.0, 0, 1),
        ("a", "y", 5.0, DAY, 1),
        ("a", "y", 5.0, 3 * DAY, 2),
        ("a", "x", 5.0, 3 * DAY, 2),
    ]
    assert [tuple(count) for count in counts] == [
        ("read", 14, 4, 3),
        ("min_rating", 13, 4, 3),
        ("min_item_rows", 12, 4, 2),
        ("min_user_rows", 11, 3, 2),
        ("max_rows_per_user", 11, 3, 2),
        ("sessions", 8, 2, 2),
    ]


def test_a_gap_one_second_over_opens_a_session():
    rows = [("u", "x", 1.0, 0), ("u", "x", 1.0, DAY), ("u", "x", 1.0, 2 * DAY + 1)]
    assert [row[4] for row in run(rows, EVERYTHING)[1]] == [1, 1, 2]


def test_the_latest_rows_stay_and_ties_keep_file_order():
    rows = [("u", item, 1.0, time) for item, time in zip("abcde", (9, 5, 9, 9, 1), strict=True)]
    kept = run(rows, replace(EVERYTHING, max_rows_per_user=2))[1]
    assert [row[1] for row in kept] == ["c", "d"]


def test_counts_are_of_rows_not_of_distinct_users():
    rows = [("u", "x", 1.0, time) for time in range(5)]
    assert len(run(rows, replace(EVERYTHING, min_item_rows=5))[1]) == 5


def test_each_step_runs_once():
    # Dropping user v leaves item x with 1 row; a repeated k-core would drop it, and then user u.
    rows = [
        ("u", "x", 1.0, 0),
        ("u", "y", 1.0, 0),
        ("v", "x", 1.0, 0),
        ("w", "y", 1.0, 0),
        ("w", "y", 1.0, 0),
    ]
    kept = run(rows, replace(EVERYTHING, min_item_rows=2, min_user_rows=2))[1]
    assert [row[:2] for row in kept] == [("u", "x"), ("u", "y"), ("w", "y"), ("w", "y")]


def test_no_rows():
    counts, result = run([], Thresholds())
    assert result == []
    assert counts[-1] == ("sessions", 0, 0, 0)


@settings(max_examples=100, deadline=None)
@given(rows_strategy, thresholds_strategy)
def test_against_the_slow_reference(rows, thresholds):
    counts, result = run(rows, thresholds)
    assert result == prepare(rows, thresholds)
    assert counts[-1].rows == len(result)
    assert counts[-1].users == len({row[0] for row in result})
    assert counts[-1].items == len({row[1] for row in result})


def test_own_sessions_count_and_gaps_do_not():
    # u: one session over two days, then another within the second; v: one session only
    rows = [
        ("u", "x", 1.0, 0, "s1"),
        ("v", "x", 1.0, 0, "s3"),
        ("u", "y", 1.0, 2 * DAY, "s1"),
        ("u", "x", 1.0, 2 * DAY, "s2"),
        ("u", "y", 1.0, 2 * DAY, "s2"),
        ("v", "y", 1.0, 9 * DAY, "s3"),
    ]
    _, result = run(rows, replace(EVERYTHING, min_sessions=2, min_rows_per_session=2), own_sessions=True)
    assert result == [
        ("u", "x", 1.0, 0, 1),
        ("u", "y", 1.0, 2 * DAY, 1),
        ("u", "x", 1.0, 2 * DAY, 2),
        ("u", "y", 1.0, 2 * DAY, 2),
    ]


def test_table_1_of_the_real_rows(ml_1m_part, tmp_path):
    conversion = run_conversion("ml-1m", ml_1m_part, tmp_path)
    data = load_sequences(conversion.path)
    assert dict(table_rows(data)) == {
        "#users": "575",
        "#items": "3,100",
        "#rows": "73,034",
        "density": "4.10%",
        "item/user Q1/Q2/Q3": "67/125/200",
        "session/user Q1/Q2/Q3": "2/2/3",
        "item/session Q1/Q2/Q3": "8/25/67",
    }
    assert conversion.card["counts"][0] == {"step": "read", "rows": 487650, "users": 2999, "items": 3615}
    # The same from the exact sessions in the file as from the gap.
    sizes = group_sizes(data)
    assert quartiles(sizes.rows_per_session) == "8/25/67"
    assert len(sizes.rows_per_session) == conversion.card["output"]["sessions"]


@pytest.mark.parametrize("step", ["min_rating", "min_item_rows", "min_user_rows", "max_rows_per_user"])
def test_every_step_matters_to_the_hand_made_examples(step, monkeypatch):
    monkeypatch.setitem(preprocessing._STEPS, step, "SELECT * FROM {previous}")
    with pytest.raises(AssertionError):
        test_the_steps_by_hand()
        test_the_latest_rows_stay_and_ties_keep_file_order()
