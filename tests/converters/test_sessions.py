"""The session rule against values worked out by hand and a slow loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_session.converters.sessions import DAY, session_starts


def test_by_hand():
    #        user 7: 0 ----(exactly a day)---- 86400 --(a day and 1 s)-- 172801   user 8: same second
    users = np.array([7, 7, 7, 8])
    times = np.array([0, DAY, 2 * DAY + 1, 2 * DAY + 1])
    assert session_starts(users, times, DAY).tolist() == [True, False, True, True]


def test_no_rows_and_one_row():
    empty = np.empty(0, dtype=np.int64)
    assert session_starts(empty, empty, DAY).tolist() == []
    assert session_starts(np.array(["a"]), np.array([5]), DAY).tolist() == [True]


def test_next_user_may_begin_earlier():
    assert session_starts(np.array([1, 2]), np.array([DAY * 9, 0]), DAY).tolist() == [True, True]


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="one length"):
        session_starts(np.zeros(2), np.zeros(3), DAY)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=40),
    st.integers(0, 20),
)
def test_against_a_loop(rows, gap):
    rows = sorted(rows)
    expected = [
        position == 0 or rows[position - 1][0] != user or time - rows[position - 1][1] > gap
        for position, (user, time) in enumerate(rows)
    ]
    users = np.array([user for user, _ in rows], dtype=np.int64)
    times = np.array([time for _, time in rows], dtype=np.int64)
    assert session_starts(users, times, gap).tolist() == expected
