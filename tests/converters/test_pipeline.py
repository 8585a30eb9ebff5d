"""The preprocessing against values worked out by hand, a slow reference and the published counts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_session.converters import pipeline
from recbole_session.converters.conversion import run_conversion
from recbole_session.converters.pipeline import Log, prepare_in_memory
from recbole_session.converters.sessions import DAY
from recbole_session.converters.stats import group_sizes, load_interactions, quartiles, table_rows
from recbole_session.converters.thresholds import Thresholds
from tests.converters.reference_converter import prepare

EVERYTHING = Thresholds(
    min_item_rows=1, min_user_rows=1, max_rows_per_user=10**6, min_sessions=1, min_rows_per_session=1
)

rows_strategy = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 5), st.sampled_from([0.5, 3.0, 4.0]), st.integers(0, 30)),
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


def coded(rows):
    """Turn rows with codes by first appearance into one Log per seven rows, as a reader would."""
    users = {user: code for code, user in enumerate(dict.fromkeys(row[0] for row in rows))}
    items = {item: code for code, item in enumerate(dict.fromkeys(row[1] for row in rows))}
    for start in range(0, len(rows), 7):
        piece = rows[start : start + 7]
        yield Log(
            np.array([users[row[0]] for row in piece], dtype=np.int32),
            np.array([items[row[1]] for row in piece], dtype=np.int32),
            np.array([row[2] for row in piece], dtype=np.float64),
            np.array([row[3] for row in piece], dtype=np.int64),
        )


def tuples(prepared, rows):
    """Return the chunks as rows with the raw users and items, like the reference's."""
    users = list(dict.fromkeys(row[0] for row in rows))
    items = list(dict.fromkeys(row[1] for row in rows))
    return [
        (users[user], items[item], rating, time, session)
        for chunk in prepared.chunks
        for user, item, rating, time, session in zip(*(column.tolist() for column in chunk), strict=True)
    ]


def run(rows, thresholds):
    prepared = prepare_in_memory(coded(rows), thresholds, None)
    return prepared, tuples(prepared, rows)


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
    prepared, result = run(rows, thresholds)
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
    assert [tuple(count) for count in prepared.counts] == [
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
    prepared, result = run([], Thresholds())
    assert result == []
    assert prepared.counts[-1] == ("sessions", 0, 0, 0)


@settings(max_examples=300, deadline=None)
@given(rows_strategy, thresholds_strategy)
def test_against_the_slow_reference(rows, thresholds):
    prepared, result = run(rows, thresholds)
    assert result == prepare(rows, thresholds)
    assert prepared.counts[-1].rows == len(result)
    assert prepared.counts[-1].users == len({row[0] for row in result})
    assert prepared.counts[-1].items == len({row[1] for row in result})


def test_table_1_of_the_real_rows(ml_1m_part, tmp_path):
    conversion = run_conversion("ml-1m", ml_1m_part, tmp_path)
    data = load_interactions(conversion.path)
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


@pytest.mark.parametrize("step", ["_drop_rare_items", "_drop_rare_users", "_keep_latest"])
def test_every_step_matters_to_the_hand_made_example(step, monkeypatch):
    monkeypatch.setattr(pipeline, step, lambda log, thresholds: log)
    with pytest.raises(AssertionError):
        test_the_steps_by_hand()
        test_the_latest_rows_stay_and_ties_keep_file_order()
