import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_session.data.sequences import UserSequences, build_user_sequences, insert_session_tokens

DAY = 86_400
TOKEN = 99


def build(rows: list[tuple[int, int, int]], n_users: int, **options: object) -> UserSequences:
    users, items, times = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return build_user_sequences(users, items, times, n_users, **options)


def test_rows_are_in_order_of_user_then_time_then_file() -> None:
    rows = [(2, 10, 50), (1, 11, 70), (2, 12, 40), (1, 13, 70), (2, 14, 50), (1, 15, 60)]
    sequences = build(rows, n_users=4)
    assert sequences.items.tolist() == [15, 11, 13, 12, 10, 14]
    assert sequences.times.tolist() == [60, 70, 70, 40, 50, 50]
    assert sequences.offsets.tolist() == [0, 0, 3, 6, 6]
    assert sequences.lengths.tolist() == [0, 3, 3, 0]


def test_seconds_that_float32_cannot_tell_apart_stay_in_order() -> None:
    base = 978_300_770
    rows = [(1, item, base + 60 - item) for item in range(1, 60)]
    assert np.float32(base) == np.float32(base + 59)  # the trap this guards against
    assert build(rows, n_users=2).items.tolist() == list(range(59, 0, -1))


@pytest.mark.parametrize(("gap", "n_sessions"), [(DAY, 1), (DAY + 1, 2)])
def test_a_session_opens_where_the_gap_is_strictly_greater(gap: int, n_sessions: int) -> None:
    sequences = build([(1, 5, 0), (1, 6, gap)], n_users=2)
    assert int(sequences.starts_session().sum()) == n_sessions


def test_given_session_ids_count_within_a_user_only() -> None:
    rows = [(1, 5, 0), (1, 6, 10 * DAY), (2, 7, 0), (2, 8, 1), (2, 9, 2)]
    sequences = build(rows, n_users=3, session_ids=np.array([4, 4, 4, 4, 3]))
    assert sequences.starts_session().tolist() == [True, False, True, False, True]
    assert sequences.sessions.diff().tolist() == [0, 1, 0, 1]


def test_session_tokens_precede_every_session_the_first_included() -> None:
    rows = [(1, 5, 0), (1, 6, 1), (1, 7, 3 * DAY), (3, 8, 7)]
    tokens, places = insert_session_tokens(build(rows, n_users=4), TOKEN)
    assert tokens.items.tolist() == [TOKEN, 5, 6, TOKEN, 7, TOKEN, 8]
    assert tokens.times.tolist() == [0, 0, 1, 3 * DAY, 3 * DAY, 7, 7]
    assert tokens.sessions.tolist() == [1, 1, 1, 2, 2, 3, 3]
    assert tokens.offsets.tolist() == [0, 0, 5, 5, 7]
    assert places.tolist() == [1, 2, 4, 6]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(0, 5 * DAY)), min_size=1, max_size=40))
def test_session_tokens_against_a_loop(rows: list[tuple[int, int, int]]) -> None:
    n_users = 6
    tokens, places = insert_session_tokens(build(rows, n_users), TOKEN)
    by_user: dict[int, list[tuple[int, int]]] = {user: [] for user in range(n_users)}
    for user, item, time in rows:
        by_user[user].append((time, item))
    expected, expected_places = [], []
    for user in range(n_users):
        assert int(tokens.offsets[user]) == len(expected)
        previous = None
        for time, item in sorted(by_user[user], key=lambda row: row[0]):  # stable
            if previous is None or time - previous > DAY:
                expected.append((TOKEN, time))
            expected_places.append(len(expected))
            expected.append((item, time))
            previous = time
    assert list(zip(tokens.items.tolist(), tokens.times.tolist(), strict=True)) == expected
    assert places.tolist() == expected_places
