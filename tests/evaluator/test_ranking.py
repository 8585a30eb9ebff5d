import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recbole_session.evaluator.ranking import rank_targets
from recbole_session.evaluator.scores import WholeScores

NAN, INF = math.nan, math.inf


def candidate_ranks(scores: Tensor, targets: Tensor, negatives: Tensor | None) -> tuple[Tensor, Tensor]:
    (found,) = rank_targets(WholeScores(scores), targets, [negatives])
    return found[:, 0], found[:, 1]


def top_items(scores: Tensor, targets: Tensor, negatives: Tensor | None, k: int) -> Tensor:
    (found,) = rank_targets(WholeScores(scores), targets, [negatives], k)
    return found[:, 2:]


@pytest.mark.parametrize(
    ("scores", "target", "negatives", "rank", "n_candidates"),
    [
        ([0, 5, 4, 3, 2], 1, None, 1, 4),
        ([0, 5, 4, 3, 2], 3, None, 3, 4),
        ([0, 5, 4, 3, 2], 4, None, 4, 4),
        ([0, 5, 4, 3, 2], 3, [1, 4], 2, 3),
        ([0, 5, 4, 3, 2], 3, [4], 1, 2),
        # A tie goes against the target, wherever it stands.
        ([0, 3, 3, 3, 2], 1, None, 3, 4),
        ([0, 3, 3, 3, 2], 3, None, 3, 4),
        ([0, 3, 3, 3, 2], 2, [1, 4], 2, 3),
        # No score that is not a number lets the target pass.
        ([0, NAN, 4, 3, 2], 1, None, 4, 4),
        ([0, NAN, 4, 3, 2], 1, [2, 3], 3, 3),
        ([0, 5, NAN, 3, NAN], 1, None, 3, 4),
        ([0, 5, NAN, 3, NAN], 1, [3, 4], 2, 3),
        ([0, NAN, NAN, NAN, NAN], 2, None, 4, 4),
        # Infinite scores.
        ([0, -INF, 4, 3, -INF], 1, None, 4, 4),
        ([0, INF, 4, 3, 2], 1, None, 1, 4),
        ([0, INF, INF, 3, 2], 1, None, 2, 4),
        ([0, 1, -INF, -INF, -INF], 1, None, 1, 4),
        # Padding never counts, whatever its score.
        ([9, 5, 4, 3, 2], 2, None, 2, 4),
        ([NAN, 5, 4, 3, 2], 1, None, 1, 4),
        ([9, 5, 4, 3, 2], 2, [1, 0, 3, 0], 2, 3),
        ([NAN, 5, 4, 3, 2], 1, [0, 0], 1, 1),
        # The target among its own negatives is one candidate, not two.
        ([0, 5, 4, 3, 2], 2, [2, 1, 3], 2, 3),
        ([0, 1, 1, 1, 1], 2, [2, 1, 3], 3, 3),
        # No negatives at all.
        ([0, 5, 4, 3, 2], 4, [], 1, 1),
        ([0, 5], 1, None, 1, 1),
    ],
)
def test_rank_by_hand(
    scores: list[float], target: int, negatives: list[int] | None, rank: int, n_candidates: int
) -> None:
    table = None if negatives is None else torch.tensor([negatives], dtype=torch.int64)
    ranks, counts = candidate_ranks(torch.tensor([scores]), torch.tensor([target]), table)
    assert (ranks.tolist(), counts.tolist()) == ([rank], [n_candidates])
    assert ranks.dtype == counts.dtype == torch.int64


@pytest.mark.parametrize("score", [0.0, 1e30, -INF, INF, NAN])
@pytest.mark.parametrize("negatives", [None, [[1, 2], [4, 0], [3, 2]]])
def test_constant_scores_rank_last(score: float, negatives: list[list[int]] | None) -> None:
    scores = torch.full((3, 6), score)
    table = None if negatives is None else torch.tensor(negatives)
    ranks, counts = candidate_ranks(scores, torch.tensor([5, 1, 4]), table)
    assert counts.tolist() == ([5, 5, 5] if negatives is None else [3, 2, 3])
    assert ranks.tolist() == counts.tolist()


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[float]], list[int], list[list[int]] | None]:
    n_items, n_rows = draw(st.integers(2, 8)), draw(st.integers(1, 4))
    score = st.sampled_from([NAN, -INF, INF, -1.0, 0.0, 0.5, 2.0])
    scores = draw(st.lists(st.lists(score, min_size=n_items, max_size=n_items), min_size=n_rows, max_size=n_rows))
    targets = draw(st.lists(st.integers(1, n_items - 1), min_size=n_rows, max_size=n_rows))
    if draw(st.booleans()):
        return scores, targets, None
    width = draw(st.integers(0, n_items))
    rows = []
    for _ in range(n_rows):
        items = draw(st.lists(st.integers(1, n_items - 1), unique=True, max_size=min(width, n_items - 1)))
        rows.append(draw(st.permutations(items + [0] * (width - len(items)))))
    return scores, targets, rows


def rank_by_loop(scores: list[float], target: int, negatives: list[int] | None) -> tuple[int, int]:
    rivals = set(range(1, len(scores)) if negatives is None else negatives) - {0, target}
    if math.isnan(scores[target]):
        return len(rivals) + 1, len(rivals) + 1
    rank = 1
    for rival in rivals:
        if math.isnan(scores[rival]) or scores[rival] >= scores[target]:
            rank += 1
    return rank, len(rivals) + 1


@settings(max_examples=300, deadline=None)
@given(batches())
def test_ranks_equal_a_loop_over_the_candidates(
    batch: tuple[list[list[float]], list[int], list[list[int]] | None],
) -> None:
    scores, targets, rows = batch
    table = None if rows is None else torch.tensor(rows, dtype=torch.int64).reshape(len(scores), -1)
    ranks, counts = candidate_ranks(torch.tensor(scores), torch.tensor(targets), table)
    expected = [
        rank_by_loop(row, target, None if rows is None else rows[index])
        for index, (row, target) in enumerate(zip(scores, targets, strict=True))
    ]
    assert list(zip(ranks.tolist(), counts.tolist(), strict=True)) == expected


def test_scores_serve_every_set_unchanged() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0, NAN]])
    kept = scores.clone()
    for table in (None, torch.tensor([[2, 0]])):
        candidate_ranks(scores, torch.tensor([1]), table)
        top_items(scores, torch.tensor([1]), table, 2)
    assert torch.equal(scores.nan_to_num(-7.0), kept.nan_to_num(-7.0))


# ---- recommended items


@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_top_items_are_the_candidates_sorted_by_score(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    scores = torch.rand(6, 12, generator=generator)
    scores[:, 0] = 2.0  # padding, above all
    targets = torch.tensor([1, 2, 3, 4, 5, 6])
    table = torch.tensor([[7, 9, 11], [8, 7, 10], [1, 2, 4], [11, 10, 9], [6, 7, 8], [1, 11, 5]])
    for negatives in (None, table):
        items = top_items(scores, targets, negatives, k)
        for user in range(6):
            candidates = range(1, 12) if negatives is None else [*table[user].tolist(), int(targets[user])]
            expected = sorted(candidates, key=lambda item: -float(scores[user, item]))[:k]
            assert items[user].tolist() == expected


def test_the_target_stands_among_the_top_items_at_its_rank() -> None:
    scores = torch.rand(30, 20, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(30) % 19 + 1
    table = (targets.unsqueeze(1) + torch.tensor([1, 4, 6, 9, 13])) % 19 + 1  # never the target
    for negatives in (None, table):
        ranks, _ = candidate_ranks(scores, targets, negatives)
        items = top_items(scores, targets, negatives, 4)
        for target, rank, row in zip(targets.tolist(), ranks.tolist(), items.tolist(), strict=True):
            assert row.index(target) + 1 == rank if rank <= 4 else target not in row


def test_a_short_row_is_filled_with_padding_after_its_candidates() -> None:
    scores = torch.tensor([[9.0, 1.0, 2.0, 3.0, 4.0], [9.0, 1.0, 2.0, 3.0, 4.0]])
    items = top_items(scores, torch.tensor([1, 2]), torch.tensor([[0, 4, 3], [0, 0, 1]]), 4)
    assert items.tolist() == [[4, 3, 1, 0], [2, 1, 0, 0]]


def test_no_item_is_recommended_twice_when_the_target_is_among_its_negatives() -> None:
    items = top_items(torch.tensor([[0.0, 3.0, 2.0, 1.0]]), torch.tensor([1]), torch.tensor([[1, 2, 3]]), 3)
    assert items.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("negatives", [None, [[0, 2, 3]]])
def test_an_item_that_a_model_rules_out_still_comes_before_padding(negatives: list[list[int]] | None) -> None:
    table = None if negatives is None else torch.tensor(negatives)
    items = top_items(torch.tensor([[5.0, -INF, -INF, 1.0]]), torch.tensor([1]), table, 3)
    assert items[0, 0] == 3
    assert set(items[0].tolist()) == {1, 2, 3}
