import numpy as np
import pytest
import torch

from recbole_session.data.batches import prefix_batch, token_batch
from recbole_session.data.sequences import build_user_sequences, insert_session_tokens

DAY = 86_400
SESSION, MASK = 90, 80
# User 1: items 1 2 | 3 4 5 | 6, user 2: item 7 alone ("|": a new session).
USERS = np.array([1, 1, 1, 1, 1, 1, 2])
TIMES = np.array([0, 10, 2 * DAY, 2 * DAY + 5, 2 * DAY + 6, 5 * DAY, 3])
CONFIG = {
    "MAX_ITEM_LIST_LENGTH": 4,
    "ITEM_ID_FIELD": "item",
    "TIME_FIELD": "time",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "length",
}
SEQUENCES = build_user_sequences(USERS, np.arange(1, 8), TIMES, n_users=3)


@pytest.mark.parametrize(
    ("end", "length", "expected"),
    [
        (3, 5, [1, 2, 3, 0, 0]),
        (5, 5, [1, 2, 3, 4, 5]),
        (5, 2, [4, 5]),  # the latest
        (1, 3, [1, 0, 0]),
        (0, 3, [0, 0, 0]),  # no history at all
    ],
)
def test_prefix_holds_the_latest_rows_before_the_target(end: int, length: int, expected: list[int]) -> None:
    batch = prefix_batch(CONFIG | {"MAX_ITEM_LIST_LENGTH": length}, SEQUENCES, torch.tensor([1]), torch.tensor([end]))
    assert batch["item_list"].tolist() == [expected]
    assert batch["length"].tolist() == [len(expected) - expected.count(0)]


def test_prefix_never_reaches_into_another_user() -> None:
    batch = prefix_batch(CONFIG, SEQUENCES, torch.tensor([2]), torch.tensor([6]))
    assert batch["item_list"].tolist() == batch["time_list"].tolist() == [[0, 0, 0, 0]]
    assert batch["length"].tolist() == [0]


@pytest.mark.parametrize(
    ("target", "length", "item_seq"),
    [
        (1, 6, [0, 0, 0, SESSION, 1, MASK]),
        # The next item opens a session: its session token goes before the mask.
        (2, 6, [0, SESSION, 1, 2, SESSION, MASK]),
        (3, 6, [SESSION, 1, 2, SESSION, 3, MASK]),
        (5, 4, [4, 5, SESSION, MASK]),
        (5, 1, [MASK]),
    ],
)
def test_inference_sequence(target: int, length: int, item_seq: list[int]) -> None:
    tokens, places = insert_session_tokens(SEQUENCES, SESSION)
    batch = token_batch(tokens, torch.tensor([1]), places[[target]] + 1, length, MASK)
    assert batch["item_seq"].tolist() == [item_seq]
    # The mask stands in the session and at the time of the item to be predicted.
    assert batch["session_seq"][0, -1] == SEQUENCES.sessions[target]
    assert batch["time_seq"][0, -1] == TIMES[target]


def test_training_sequence_without_session_tokens_ends_with_the_item_itself() -> None:
    batch = token_batch(SEQUENCES, torch.tensor([1, 2]), torch.tensor([5, 7]), 4, mask=None)
    assert batch["item_seq"].tolist() == [[2, 3, 4, 5], [0, 0, 0, 7]]
    assert batch["session_seq"].tolist() == [[1, 2, 2, 2], [0, 0, 0, 4]]
    assert batch["time_seq"].tolist() == [TIMES[1:5].tolist(), [0, 0, 0, 3]]
