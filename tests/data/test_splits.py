from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_session.data.sequences import UserSequences, build_user_sequences
from recbole_session.data.splits import (
    drawn_ends,
    moments_of_shares,
    samples_between,
    split_bounds,
    training_windows,
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


@pytest.mark.parametrize(
    ("stride", "users", "ends"),
    [
        (None, [2, 3, 4, 5], [1, 1, 1, 6]),
        (1, [2, 3, 4, 5, 5, 5, 5, 5, 5], [1, 1, 1, 6, 5, 4, 3, 2, 1]),
        (4, [2, 3, 4, 5, 5], [1, 1, 1, 6, 2]),
        (6, [2, 3, 4, 5], [1, 1, 1, 6]),
    ],
)
def test_training_windows_by_hand(stride: int | None, users: list[int], ends: list[int]) -> None:
    """The last user has the training targets 1 to 6, the three before it one each, the first none."""
    sequences = sequences_of("a", "ab", "abc", "abcd", "abcdefghi")
    found, rows = training_windows(sequences, split_bounds(sequences, LS)[0], stride)
    assert found.tolist() == users
    assert (rows - sequences.offsets[found]).tolist() == ends


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


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, split=SPLITS, stride=st.integers(1, 9), seed=st.integers(0, 2**20))
def test_windows_end_anywhere_in_their_stride_but_the_last_one_at_the_last_row(
    rows: list[tuple[int, int]], split: dict[str, object], stride: int, seed: int
) -> None:
    owners, times = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    sequences = build_user_sequences(owners, np.arange(1, len(rows) + 1), times, 6, session_gap=5)
    windows = training_windows(sequences, split_bounds(sequences, split)[0], stride)
    generator = torch.Generator().manual_seed(seed)
    drawn = [drawn_ends(sequences, windows, stride, generator).tolist() for _ in range(60)]
    expected = defaultdict(list)  # of each user, the targets in groups of a stride, the last ones first
    for user, end in zip(*map(torch.Tensor.tolist, samples_of(sequences, split)["train"]), strict=True):
        expected[user].append(end)
    groups = [
        ends[-1:] if stop == len(ends) else ends[max(0, stop - stride) : stop]
        for ends in expected.values()
        for stop in range(len(ends), 0, -stride)
    ]
    for group, ends in zip(groups, zip(*drawn, strict=True), strict=True):
        assert set(ends) <= set(group)
        assert len(set(ends)) > 1 or len(group) == 1
    assert windows[1].tolist() == [group[-1] for group in groups]


def test_ends_are_drawn_evenly() -> None:
    sequences = sequences_of("abcdefghijkl")
    windows = training_windows(sequences, split_bounds(sequences, LS)[0], 4)  # targets 1 | 2 to 5 | 6 to 9
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([drawn_ends(sequences, windows, 4, generator) for _ in range(8000)])
    assert torch.bincount(drawn.flatten(), minlength=10).div(8000).tolist() == pytest.approx(
        [0, 1, *[0.25] * 4, 0, 0, 0, 1], abs=0.02
    )
