"""Ranks of the targets among their candidates, all sets from the same scores."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recbole_session.evaluator.scores import ScoreFactors, Scores, Targets, WholeScores


def rank_targets(scores: Scores, targets: Tensor, tables: Sequence[Tensor | None], k: int = 0) -> list[Tensor]:
    """Rank the targets in several candidate sets; with `ScoreFactors` memory does not grow with the number of items.

    An item counts as ranked above the target unless its score is strictly smaller. A tie therefore goes against the
    target, and so does a score that is not a number: a model that gives every item the same score is ranked last.

    Parameters
    ----------
    targets : Tensor
        int64 ``[B]``.
    tables : sequence of Tensor or None
        By candidate set: negatives, int64 ``[B, K]`` with 0 where there is none; None for every item. The target may
        be among its negatives.
    k : int
        How many of the best items to list.

    Returns
    -------
    list of Tensor
        By candidate set: int64 ``[B, 2 + columns]`` with the rank (1 is best), the number of candidates, target
        included, and the ``k`` best items, best first. Padding follows where a set has fewer.
    """
    with torch.autocast(targets.device.type, enabled=False):
        if isinstance(scores, ScoreFactors):
            scores = scores._replace(states=scores.states.to(scores.weight.dtype))
        located = scores.locate(targets)
        given = [table for table in tables if table is not None]
        negatives = torch.cat((targets.new_empty(len(targets), 0), *given), dim=1)
        if len(given) < len(tables):
            among_all, of_negatives = _rank_among_all(scores, located, negatives, k)
        else:
            of_negatives = scores.of(negatives)
        parts = iter(of_negatives.split([table.size(1) for table in given], dim=1))
        return [among_all if table is None else _rank_among(scores, located, table, next(parts), k) for table in tables]


def _rank_among_all(scores: Scores, targets: Targets, negatives: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return rank, number of candidates and best items among all items, and the scores of ``negatives`` ``[B, K]``."""
    ranks, n_candidates = torch.zeros_like(targets.items), torch.zeros_like(targets.items)
    best, best_scores = ranks.new_empty(len(ranks), 0), targets.low.new_empty(len(ranks), 0)
    of_negatives = targets.low.new_zeros(negatives.shape)
    for slice_scores, items in scores.slices():
        ranks += _count_not_below(scores, targets, slice_scores, items)  # the target is not below itself: 1 is best
        n_candidates += len(items)
        places = negatives - items[0]
        inside = (places >= 0) & (places < len(items))
        of_negatives = torch.where(inside, slice_scores.gather(1, places.clamp(0, len(items) - 1)), of_negatives)
        if k:
            values, columns = slice_scores.topk(min(k, len(items)))
            best, best_scores = torch.cat((best, items[columns]), dim=1), torch.cat((best_scores, values), dim=1)
            best_scores, order = best_scores.topk(min(k, best.size(1)))
            best = best.gather(1, order)
    return torch.cat((torch.stack((ranks, n_candidates), dim=1), best), dim=1), of_negatives


def _rank_among(scores: Scores, targets: Targets, negatives: Tensor, of_negatives: Tensor, k: int) -> Tensor:
    """Return rank, number of candidates and best items among ``negatives``, whose scores are ``of_negatives``."""
    is_candidate = (negatives != 0) & (negatives != targets.items.unsqueeze(1))
    ranks = _count_not_below(scores, targets, of_negatives, negatives, is_candidate) + 1
    found = torch.stack((ranks, is_candidate.sum(1) + 1), dim=1)
    if not k:
        return found
    items = torch.cat((negatives * is_candidate, targets.items.unsqueeze(1)), dim=1)
    of_items = torch.cat((of_negatives, targets.scores.to(of_negatives.dtype)), dim=1)
    # Padding is lower than any item, also than one with the -inf of a model that rules it out.
    of_items = of_items.clamp(min=torch.finfo(of_items.dtype).min).masked_fill(items == 0, float("-inf"))
    best = items.gather(1, of_items.topk(min(k, items.size(1))).indices)
    return torch.cat((found, best), dim=1)


def _count_not_below(
    scores: Scores, targets: Targets, some_scores: Tensor, items: Tensor, is_candidate: Tensor | None = None
) -> Tensor:
    """How many candidates of each row score as much as the target or more, or not a number; int64 ``[B]``.

    ``some_scores``, ``[B, C]``, are those of ``items``, int64, broadcast to ``[B, C]``. ``is_candidate``, bool
    ``[B, C]``, is True where there is an item that counts; None for all, which are then a range of items.
    """
    below = some_scores < targets.low
    if is_candidate is not None:
        below |= ~is_candidate
    # Counted in int32, in which torch is several times faster over long rows than in int64.
    not_below = some_scores.size(1) - below.sum(1, dtype=torch.int32)
    if isinstance(scores, WholeScores):
        return not_below.long()
    above = some_scores > targets.high
    if is_candidate is None:
        is_own = (items[0] <= targets.items) & (targets.items <= items[-1])  # the target needs no decision
    else:
        is_own = torch.zeros_like(targets.items, dtype=torch.bool)
        above &= is_candidate
    is_open = (above.sum(1, dtype=torch.int32) + is_own < not_below) & ~targets.scores[:, 0].isnan()
    open_rows = is_open.nonzero()[:, 0]
    places, columns = (~(below[open_rows] | above[open_rows])).nonzero(as_tuple=True)
    rows = open_rows[places]
    exact = scores.exact(rows, items.expand_as(some_scores)[rows, columns])
    return not_below - torch.bincount(rows[exact < targets.scores[rows, 0]], minlength=len(some_scores))
