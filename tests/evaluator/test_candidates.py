from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recbole_session.data.sequences import UserSequences
from recbole_session.errors import InputError
from recbole_session.evaluator import candidates
from recbole_session.evaluator.candidates import (
    build_negatives,
    by_popularity,
    item_history,
    popular_negatives,
    random_negatives,
    read_negatives,
)
from tests.memory import peak_growth

USERS = {"[PAD]": 0, "ann": 1, "bob": 2, "NA": 3}
ITEMS = {"[PAD]": 0, "x": 1, "y": 2, "z": 3, "null": 4}


def sequences_of(rows_of_users: Sequence[Sequence[int]]) -> UserSequences:
    """Rows by user, the padding user included; items of a user in order of time."""
    items = [item for rows in rows_of_users for item in rows]
    offsets = list(accumulate(map(len, rows_of_users), initial=0))
    return UserSequences(
        items=torch.tensor(items, dtype=torch.int64),
        sessions=torch.arange(len(items)),
        times=torch.arange(len(items)),
        offsets=torch.tensor(offsets),
    )


def history_of(sequences: UserSequences, n_items: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return item_history(sequences, n_items, range(sequences.n_users))


def drawn_for_all(sequences: UserSequences, n_items: int, number: int, seed: int) -> NDArray[np.int64]:
    return random_negatives(history_of(sequences, n_items), n_items, number, seed, 0, sequences.n_users)


def popular(sequences: UserSequences, n_items: int, number: int) -> NDArray[np.int64]:
    order = by_popularity(sequences.items.numpy(), n_items)
    return popular_negatives(history_of(sequences, n_items), order, number)


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[list[list[int]], int, int]:
    """Rows by user (some without any, the last one with some), number of items, number of negatives."""
    n_items = draw(st.integers(2, 14))
    item = st.integers(1, n_items - 1)
    rows = draw(st.lists(st.lists(item, max_size=16), max_size=6))
    return [[], *rows, draw(st.lists(item, min_size=1, max_size=16))], n_items, draw(st.integers(1, 16))


def most_popular(rows_of_users: Sequence[Sequence[int]], n_items: int, user: int, number: int) -> list[int]:
    counts = Counter(item for rows in rows_of_users for item in rows)
    outside = [item for item in range(1, n_items) if item not in rows_of_users[user]]
    return sorted(outside, key=lambda item: (-counts[item], item))[:number]


def chi_square(observed: Counter[tuple[int, ...]], expected: float, cells: list[tuple[int, ...]]) -> float:
    assert set(observed) <= set(cells)
    return sum((observed[cell] - expected) ** 2 / expected for cell in cells)


def test_history_is_every_distinct_item_of_every_row() -> None:
    offsets, items = history_of(sequences_of([[], [3, 1, 3], [], [2, 2]]), n_items=5)
    assert [items[start:end].tolist() for start, end in pairwise(offsets)] == [[], [1, 3], [], [2]]


@settings(max_examples=150, deadline=None)
@given(catalogues(), st.integers(0, 2**40))
def test_random_negatives_lie_outside_the_history_once_each_and_as_many_as_there_are(
    catalogue: tuple[list[list[int]], int, int], seed: int
) -> None:
    rows_of_users, n_items, number = catalogue
    table = drawn_for_all(sequences_of(rows_of_users), n_items, number, seed)
    assert table.shape == (len(rows_of_users), number)
    assert table.dtype == np.int64
    for rows, drawn in zip(rows_of_users, table.tolist(), strict=True):
        outside = set(range(1, n_items)) - set(rows)
        negatives = [item for item in drawn if item != 0]
        assert set(negatives) <= outside
        assert len(negatives) == len(set(negatives)) == min(number, len(outside))


@settings(max_examples=150, deadline=None)
@given(catalogues())
def test_popular_negatives_are_the_most_popular_outside_and_ties_go_to_the_smaller_id(
    catalogue: tuple[list[list[int]], int, int],
) -> None:
    rows_of_users, n_items, number = catalogue
    sequences = sequences_of(rows_of_users)
    table = popular(sequences, n_items, number)
    for user, row in enumerate(table.tolist()):
        expected = most_popular(rows_of_users, n_items, user, number)
        assert row == expected + [0] * (number - len(expected))


def test_popularity_counts_rows_and_not_users() -> None:
    # Item 3 has three rows of one user, item 1 two rows of two users, item 2 one row.
    sequences = sequences_of([[], [3, 3, 3], [1], [1, 2], [4]])
    table = popular(sequences, 5, 3)
    assert table[4].tolist() == [3, 1, 2]
    assert table[0].tolist() == [3, 1, 2]
    assert table[1].tolist() == [1, 2, 4]


def test_every_subset_is_as_likely_as_any_other_among_users_drawn_together() -> None:
    """20,000 users with one history; chi-square over the 20 subsets of three among six items."""
    n_users, history = 20_000, [2, 5, 9]
    outside = [1, 3, 4, 6, 7, 8]
    table = drawn_for_all(sequences_of([history] * n_users), 10, 3, seed=7)
    drawn = Counter(tuple(sorted(row)) for row in table.tolist())
    subsets = list(combinations(outside, 3))
    assert chi_square(drawn, n_users / 20, subsets) < 43.8  # 19 degrees of freedom: exceeded once in 1,000


def test_every_subset_is_as_likely_for_each_user_over_the_seeds() -> None:
    histories = [[], [1, 8], [4], [1, 2, 3, 4, 5, 6, 7]]
    outside = [set(range(1, 9)) - set(rows) for rows in histories]
    sequences = sequences_of(histories)
    n_seeds = 3000
    tables = [drawn_for_all(sequences, 9, 2, seed).tolist() for seed in range(n_seeds)]
    for user, critical in ((0, 55.5), (1, 36.1), (2, 45.3)):  # 27, 14, 20 degrees of freedom, 0.1%
        subsets = list(combinations(sorted(outside[user]), 2))
        drawn = Counter(tuple(sorted(table[user])) for table in tables)
        assert chi_square(drawn, n_seeds / len(subsets), subsets) < critical
    assert {tuple(sorted(table[3])) for table in tables} == {(0, 8)}


def test_negatives_of_different_users_are_drawn_apart() -> None:
    table = drawn_for_all(sequences_of([[1]] * 50), 200, 20, seed=1)
    assert len({tuple(sorted(row)) for row in table.tolist()}) == 50


def test_only_the_seed_of_negatives_moves_them() -> None:
    sequences = sequences_of([[], [1, 2], [3]])

    def draw(seed: int, state: int) -> list[list[int]]:
        np.random.seed(state)  # noqa: NPY002  RecBole seeds the global state
        torch.manual_seed(state)
        return drawn_for_all(sequences, 60, 10, seed).tolist()

    assert draw(2020, state=1) == draw(2020, state=2)
    first, other = draw(2020, state=1), draw(2021, state=1)
    assert all(set(left) != set(right) for left, right in zip(first, other, strict=True))


def test_sets_are_named_after_their_entries_and_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("user_id,item_id\nbob,z\n")
    rows_of_users = [[], [1, 2], [2], [4]]
    sets = build_negatives(["all", str(path), "popular", "random"], sequences_of(rows_of_users), 5, 2, 0, USERS, ITEMS)
    assert list(sets) == ["all", "mine", "popular", "random"]
    assert sets["all"] is None
    assert sets["mine"].tolist() == [[0], [0], [3], [0]]
    assert sets["popular"].tolist() == [[2, 1], [4, 3], [1, 4], [2, 1]]
    assert set(sets["random"][1].tolist()) == {3, 4}


def test_more_negatives_than_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond the catalogue are never drawn, and do not count."""
    rows, sets = sequences_of([[], [1, 2], [2], [4]]), ["random", "popular"]
    found = build_negatives(sets, rows, 5, 10**12, 0, USERS, ITEMS)
    assert [found[name].shape for name in sets] == [(4, 4)] * 2
    monkeypatch.setattr("recbole_session.evaluator.candidates.LARGEST", 15)
    with pytest.raises(InputError, match="num_negatives is 4 for 4 users; allowed: at most 3"):
        build_negatives(sets, rows, 5, 4, 0, USERS, ITEMS)


def test_users_without_rows_have_the_whole_catalogue_wherever_they_stand() -> None:
    rows_of_users = [[], [1], [], [2, 2], [], []]
    sets = build_negatives(["random", "popular"], sequences_of(rows_of_users), 4, 3, 0, {}, {})
    assert [set(row) for row in sets["random"].tolist()] == [
        {1, 2, 3}, {0, 2, 3}, {1, 2, 3}, {0, 1, 3}, {1, 2, 3}, {1, 2, 3},
    ]  # fmt: skip
    assert sets["popular"].tolist() == [[2, 1, 3], [2, 3, 0], [2, 1, 3], [1, 3, 0], [2, 1, 3], [2, 1, 3]]


@settings(max_examples=60, deadline=None)
@given(catalogues(), st.integers(0, 2**40), st.integers(1, 40))
def test_users_in_pieces_get_what_all_users_get_at_once(
    catalogue: tuple[list[list[int]], int, int], seed: int, rows_at_once: int
) -> None:
    """A negative is the same however many users are drawn for together."""
    rows_of_users, n_items, number = catalogue
    sequences, entries = sequences_of(rows_of_users), ["random", "popular"]
    number = min(number, n_items - 1)
    whole = {"random": drawn_for_all(sequences, n_items, number, seed), "popular": popular(sequences, n_items, number)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "ROWS_AT_ONCE", rows_at_once)
        pieces = build_negatives(entries, sequences, n_items, number, seed, {}, {})
    for name, table in pieces.items():
        assert table is not None
        assert table.tolist() == whole[name].tolist()


def test_the_numbers_of_the_first_version_are_drawn() -> None:
    """Worked out by Floyd's algorithm for one user after the other, on the numbers that all users draw together."""
    seed, n_items, number, histories = 11, 30, 6, [[], [3, 7], [1, 2, 29], []]
    drawn = np.random.default_rng(seed).random((number, len(histories)))
    expected = []
    for user, history in enumerate(histories):
        left = [item for item in range(1, n_items) if item not in history]
        places: list[int] = []
        for column in range(number):
            highest = len(left) - number + column
            place = int(drawn[column, user] * (highest + 1))
            places.append(highest if place in places else place)
        expected.append([left[place] for place in places])
    table = drawn_for_all(sequences_of(histories), n_items, number, seed)
    assert table.tolist() == expected


def test_negatives_take_memory_for_their_table_and_a_piece() -> None:
    """For 100,000 users with 100 negatives: 38 MiB for each table; all at once would take over 500 MiB."""
    before = """
import numpy as np
from recbole_session.data.sequences import build_user_sequences
from recbole_session.evaluator.candidates import build_negatives
users = np.repeat(np.arange(1, 100_001), 10)
items = np.random.default_rng(0).integers(1, 20_000, len(users))
sequences = build_user_sequences(users, items, np.arange(len(users)), 100_001)
"""
    measured = "build_negatives(['random', 'popular'], sequences, 20_000, 100, 1, {}, {})"
    assert peak_growth(before, measured) < 250


# ---- a user's own negatives


def read(tmp_path: Path, text: str | bytes) -> list[list[int]]:
    path = tmp_path / "own.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_negatives(path, len(USERS), USERS, ITEMS).tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Rows in any order; those of a user keep theirs, shorter ones are filled with padding.
        ("user_id,item_id\nbob,z\nann,y\nbob,x\nbob,y\n", [[0, 0, 0], [2, 0, 0], [3, 1, 2], [0, 0, 0]]),
        # Ids that pandas would take for missing values.
        ("user_id,item_id\nNA,null\n", [[0], [0], [0], [4]]),
        ("user_id,item_id\r\nann,x\r\n", [[0], [1], [0], [0]]),
        ("user_id,item_id\n", [[], [], [], []]),
    ],
)
def test_own_negatives_are_read_as_they_stand(tmp_path: Path, text: str, expected: list[list[int]]) -> None:
    assert read(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read: it is empty"),
        (b"user_id,item_id\nann,\xff\n", "cannot be read"),
        ("item_id,user_id\nx,ann\n", "line 1 is 'item_id,user_id'; it must be 'user_id,item_id'"),
        ("user_id,item_id,rank\nann,x,1\n", "line 1 is 'user_id,item_id,rank'; it must be"),
        ("user_id\nann\n", "line 1 is 'user_id'; it must be"),
        ("ann,x\n", "line 1 is 'ann,x'; it must be"),
        ("user_id,item_id\nann,x\ncat,y\n", "line 3: user_id 'cat' is not in the dataset"),
        ("user_id,item_id\nann,x\nbob,w\n", "line 3: item_id 'w' is not in the dataset"),
        ("user_id,item_id\nann\n", "line 2: item_id '' is not in the dataset"),
        ("user_id,item_id\n[PAD],x\n", "line 2: user_id '[PAD]' is not in the dataset"),
        ("user_id,item_id\nann,[PAD]\n", "line 2: item_id '[PAD]' is not in the dataset"),
        ("user_id,item_id\nann,x\nbob,x\nann,x\n", "line 4 repeats an earlier one"),
        ("user_id,item_id\nann,x\nbob,x,y\n", "line 3 has more than two columns"),
    ],
)
def test_a_broken_file_of_negatives_is_one_sentence(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"negatives file {tmp_path / 'own.csv'}")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_of_negatives_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"negatives file .*gone\.csv cannot be read: "):
        read_negatives(tmp_path / "gone.csv", len(USERS), USERS, ITEMS)


def test_a_third_column_without_a_name_is_refused_and_not_read_one_column_off(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("user_id,item_id\n1,2,3\n")
    numbers = {str(number): number for number in range(1, 5)}
    with pytest.raises(InputError, match=r"own\.csv"):
        read_negatives(path, 5, numbers, numbers)


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 4: item_id 'w'"):
        read(tmp_path, "user_id,item_id\nann,x\n\nbob,w\n")
