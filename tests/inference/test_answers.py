import math

import pytest
import torch

from recbole_session.inference.answers import best_items


@pytest.mark.parametrize("k", [1, 3, 8, 20])
def test_equal_to_sorting_everything(k: int) -> None:
    """By score, then by id: with few different scores, most rows have ties within and across place k."""
    scores = torch.randint(0, 4, (50, 20), generator=torch.Generator().manual_seed(k)).float()
    scores[::3, ::2] = -math.inf
    scores[1, 5] = math.nan
    items, values = best_items(scores, k)
    for row, found, value in zip(scores.tolist(), items.tolist(), values.tolist(), strict=True):
        plain = [-math.inf if math.isnan(score) else score for score in row]
        expected = sorted(range(20), key=lambda item: (-plain[item], item))[:k]
        assert found == expected
        assert value == [plain[item] for item in expected]
