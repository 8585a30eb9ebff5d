import math

import pytest
import torch

from recbole_session.data.batches import UNKNOWN_TIME, session_token
from recbole_session.model.session_transformer import gap_buckets, one_before, session_segments, times_of_items

DAY = 86_400


def test_segments_count_from_the_latest_session() -> None:
    sessions = torch.tensor([[0, 0, 7, 7, 8, 9, 10, 10], [3, 3, 3, 3, 3, 3, 3, 3]])
    is_token = torch.tensor([[False] * 2 + [True] * 6, [True] * 8])
    segments = session_segments(sessions, is_token, max_session_segments=3)
    assert segments.tolist() == [[0, 0, 1, 1, 1, 2, 3, 3], [3] * 8]


def test_the_time_at_a_session_token_is_that_of_the_item_before_it() -> None:
    token = session_token(10)
    item_seq = torch.tensor([[0, token, 3, token, 4, 5], [2, token, token, 6, 7, 8]])
    time_seq = torch.tensor([[0, 100, 100, 900, 900, 950], [10, 20, 30, 40, 50, 60]])
    unknown = UNKNOWN_TIME
    assert times_of_items(item_seq, time_seq, n_items=10).tolist() == [
        [unknown, unknown, 100, 100, 900, 950],
        [10, 10, 20, 40, 50, 60],
    ]
    assert one_before(torch.tensor([[1, 2, 3]])).tolist() == [[unknown, 1, 2]]


@pytest.mark.parametrize("seconds", [0, 1, 6, 7, 60, 3_600, DAY, 7 * DAY, 365 * DAY, 10**10, -5])
def test_gaps_fall_into_logarithmic_buckets(seconds: int) -> None:
    found = gap_buckets(torch.tensor([1_000]), torch.tensor([1_000 + seconds]))
    assert found.tolist() == [min(1 + math.floor(math.log(1 + max(seconds, 0)) / 2), 12)]


def test_an_unknown_moment_makes_an_unknown_gap() -> None:
    since = torch.tensor([UNKNOWN_TIME, 5, UNKNOWN_TIME])
    until = torch.tensor([5, UNKNOWN_TIME, UNKNOWN_TIME])
    assert gap_buckets(since, until).tolist() == [0, 0, 0]
