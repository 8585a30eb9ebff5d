import numpy as np
import pytest

from recbole_session.data.sequences import build_user_sequences
from recbole_session.data.splits import last_training_rows, leave_one_out

# Rows of a user -> targets of each split, as row numbers within the user (RecBole's leave-one-out rule).
EXPECTED = {
    1: {"train": [], "valid": [], "test": []},
    2: {"train": [1], "valid": [], "test": []},
    3: {"train": [1], "valid": [], "test": [2]},
    4: {"train": [1], "valid": [2], "test": [3]},
    6: {"train": [1, 2, 3], "valid": [4], "test": [5]},
}


def sequences_of(*lengths: int):  # type: ignore[no-untyped-def]
    users = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    rows = np.arange(len(users))
    return build_user_sequences(users, rows + 1, rows, n_users=len(lengths) + 2)


@pytest.mark.parametrize("length", list(EXPECTED))
def test_targets_by_number_of_rows(length: int) -> None:
    sequences = sequences_of(3, length, 5)
    for split, (users, ends) in leave_one_out(sequences).items():
        assert (ends[users == 2] - 3).tolist() == EXPECTED[length][split], split


def test_every_target_lies_in_one_split_and_splits_are_in_order_of_time() -> None:
    sequences = sequences_of(1, 2, 3, 4, 9, 5)
    samples = leave_one_out(sequences)
    targets = [end for _, ends in samples.values() for end in ends.tolist()]
    first_rows = {int(offset) for offset in sequences.offsets[1:-1]}
    assert sorted(targets) == sorted(set(range(len(sequences.items))) - first_rows)
    for user in range(1, 7):
        train, valid, test = (ends[users == user].tolist() for users, ends in samples.values())
        assert train + valid + test == sorted(train + valid + test)


def test_masked_models_train_on_the_sequence_that_ends_at_the_last_training_target() -> None:
    sequences = sequences_of(1, 2, 3, 4, 9)
    users, ends = last_training_rows(sequences)
    assert users.tolist() == [2, 3, 4, 5]
    assert (ends - sequences.offsets[users]).tolist() == [1, 1, 1, 6]
