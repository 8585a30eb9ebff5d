from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_session.data.sequences import UserSequences, build_user_sequences
from recbole_session.data.splits import (
    last_training_rows,
    moments_of_shares,
    samples_between,
    split_bounds,
    users_without_history,
)

LS, SS = {"LS": "valid_and_test"}, {"SS": "valid_and_test"}


def sequences_of(*users: str) -> UserSequences:
    """A text per user, a letter per row, ``|`` where a session opens; rows are a second apart from user to user."""
    rows = [
        (number, session)
        for number, text in enumerate(users, start=1)
        for session, part in enumerate(text.split("|"))
        for _ in part
    ]
    owners, sessions = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    places = np.arange(len(rows))
    return build_user_sequences(owners, places + 1, places, len(users) + 1, sessions)


def samples_of(sequences: UserSequences, split: dict[str, object]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    bounds = [sequences.offsets[:-1], *split_bounds(sequences, split), sequences.offsets[1:]]
    return {
        name: samples_between(sequences, first, stop)
        for name, first, stop in zip(("train", "valid", "test"), bounds, bounds[1:], strict=False)
    }


def targets(sequences: UserSequences, split: dict[str, object]) -> dict[str, dict[int, list[int]]]:
    """By split and user: targets as row numbers within the user."""
    found = {}
    for name, (users, ends) in samples_of(sequences, split).items():
        of_users = defaultdict(list)
        for user, end in zip(users.tolist(), ends.tolist(), strict=True):
            of_users[user].append(end - int(sequences.offsets[user]))
        found[name] = dict(of_users)
    return found


@pytest.mark.parametrize(
    ("split", "text", "train", "valid", "test"),
    [
        (LS, "a", [], [], []),
        (LS, "ab", [1], [], []),
        (LS, "abc", [1], [], [2]),
        (LS, "ab|cd", [1], [2], [3]),
        (LS, "abcdef", [1, 2, 3], [4], [5]),
        (SS, "abc", [1, 2], [], []),
        (SS, "ab|c", [1], [], [2]),
        (SS, "ab|cd|ef", [1], [2, 3], [4, 5]),
        (SS, "a|b|c", [], [1], [2]),
        (SS, "a|bc|d|efg", [1, 2], [3], [4, 5, 6]),
    ],
)
def test_targets_of_a_user(
    split: dict[str, object], text: str, train: list[int], valid: list[int], test: list[int]
) -> None:
    found = targets(sequences_of("xyz", text, "uvw|x"), split)
    assert [found[name].get(2, []) for name in ("train", "valid", "test")] == [train, valid, test]


def test_a_split_by_time_cuts_all_users_at_the_same_moments() -> None:
    sequences = sequences_of("abcd", "efgh")  # times 0 to 3 and 4 to 7
    assert targets(sequences, {"TS": [2, 6]}) == {
        "train": {1: [1]},
        "valid": {1: [2, 3], 2: [1]},
        "test": {2: [2, 3]},
    }
    valid_from, _ = split_bounds(sequences, {"TS": [2, 6]})
    assert users_without_history(sequences, valid_from).tolist() == [2]


def test_shares_become_moments_and_equal_times_stay_together() -> None:
    times = torch.tensor([5, 1, 2, 3, 4, 6, 7, 8, 9, 10])
    assert moments_of_shares(times, [0.8, 0.1, 0.1]) == [9, 10]
    assert moments_of_shares(torch.tensor([1, 2, 2, 2, 3]), [0.5, 0.25, 0.25]) == [2, 2]


def test_masked_models_train_on_the_sequence_that_ends_at_the_last_training_target() -> None:
    sequences = sequences_of("a", "ab", "abc", "abcd", "abcdefghi")
    users, ends = last_training_rows(sequences, split_bounds(sequences, LS)[0])
    assert users.tolist() == [2, 3, 4, 5]
    assert (ends - sequences.offsets[users]).tolist() == [1, 1, 1, 6]


ROWS = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 40)), min_size=1, max_size=60)
SPLITS = st.one_of(
    st.sampled_from([LS, SS]),
    st.tuples(st.integers(1, 20), st.integers(1, 20)).map(lambda pair: {"TS": [pair[0], sum(pair)]}),
)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, split=SPLITS)
def test_no_future_in_any_split(rows: list[tuple[int, int]], split: dict[str, object]) -> None:
    """Every row but a user's first is one target, histories are the past, and later splits come later."""
    owners, times = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    sequences = build_user_sequences(owners, np.arange(1, len(rows) + 1), times, 6, session_gap=5)
    samples = samples_of(sequences, split)
    place = {int(end): name for name, (_, ends) in samples.items() for end in ends}
    assert len(place) == sum(len(ends) for _, ends in samples.values())
    first_rows = {int(first) for first, length in zip(sequences.offsets, sequences.lengths, strict=False) if length}
    assert place.keys() == set(range(len(rows))) - first_rows
    for name, (users, ends) in samples.items():
        for user, end in zip(users.tolist(), ends.tolist(), strict=True):
            history = sequences.times[sequences.offsets[user] : end]
            assert len(history) and (history <= sequences.times[end]).all()
            later = {place[row] for row in range(end + 1, int(sequences.offsets[user + 1]))}
            assert name != "test" or later <= {"test"}
            assert name != "valid" or later <= {"valid", "test"}
    if "TS" in split:
        latest = max((int(sequences.times[end]) for end, name in place.items() if name == "train"), default=-1)
        others = [int(sequences.times[end]) for end, name in place.items() if name != "train"]
        assert latest < min(others, default=latest + 1)
