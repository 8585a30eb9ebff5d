"""Ranks of the target among its candidates, all sets from the same scores of all items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# Of the scores of all items, held at once. Fewer rows would have a model read all its items' weights more often.
SCORES_BYTES = 128 * 2**20
PAIRS_AT_ONCE = 8192  # of a sequence and an item, for models that answer for one pair at a time


def item_scores(model: Any, batch: Any, n_items: int, item_field: str) -> Tensor:
    """Scores of all items ``[B, n_items]``; models without a full sort are asked item by item.

    Parameters
    ----------
    model : nn.Module
        With RecBole's ``full_sort_predict``, or only ``predict``.
    batch : Interaction
        ``B`` rows.
    n_items : int
        Number of items, padding included.
    item_field : str
        Where ``predict`` looks for the item.
    """
    try:
        scores = model.full_sort_predict(batch)
    except NotImplementedError:
        scores = _scores_by_pairs(model, batch, n_items, item_field)
    return scores.view(-1, n_items)


def _scores_by_pairs(model: Any, batch: Any, n_items: int, item_field: str) -> Tensor:
    """Scores ``[B * n_items]`` of all pairs, some at a time, as each carries its row of the batch."""
    device = next(iter(batch.interaction.values())).device
    parts = []
    for pairs in torch.arange(len(batch) * n_items, device=device).split(PAIRS_AT_ONCE):
        rows = batch[pairs // n_items]
        rows[item_field] = pairs % n_items
        parts.append(model.predict(rows))
    return torch.cat(parts)


def row_pieces(batch: Any, n_items: int) -> Iterator[Any]:
    """Cut a batch into rows whose scores of all items, in float32, take `SCORES_BYTES` at most, or single rows."""
    step = max(1, SCORES_BYTES // (4 * n_items))
    for start in range(0, len(batch), step):
        yield batch[start : start + step]


def candidate_ranks(scores: Tensor, targets: Tensor, negatives: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rank each target within its candidate set.

    An item counts as ranked above the target unless its score is strictly smaller. A tie therefore goes
    against the target, and so does a score that is not a number: a model that gives every item the same score
    is ranked last.

    Parameters
    ----------
    scores : Tensor
        ``[B, n_items]``; column 0 is padding and never counts.
    targets : Tensor
        int64 ``[B]``.
    negatives : Tensor or None
        int64 ``[B, K]``, 0 where there is none; None for every item but the target.

    Returns
    -------
    ranks : Tensor
        int64 ``[B]``, 1 is best.
    n_candidates : Tensor
        int64 ``[B]``, the target included.
    """
    target_scores = scores.gather(1, targets.unsqueeze(1))  # [B, 1]
    if negatives is None:
        above = ~(scores < target_scores)
        above[:, 0] = False
        above.scatter_(1, targets.unsqueeze(1), False)
        n_candidates = torch.full_like(targets, scores.size(1) - 1)
    else:
        is_candidate = (negatives != 0) & (negatives != targets.unsqueeze(1))
        above = ~(scores.gather(1, negatives) < target_scores) & is_candidate
        n_candidates = is_candidate.sum(1) + 1
    # Counted in int32, in which torch is several times faster over long rows than in int64.
    return above.sum(1, dtype=torch.int32).long() + 1, n_candidates


def top_items(scores: Tensor, targets: Tensor, negatives: Tensor | None, k: int) -> Tensor:
    """Return the ``k`` best items of each candidate set, best first, int64 ``[B, min(k, candidates)]``.

    Parameters as in `candidate_ranks`; padding comes only where a set has fewer than ``k`` items.
    """
    if negatives is None:
        return scores[:, 1:].topk(min(k, scores.size(1) - 1)).indices + 1
    others = torch.where(negatives == targets.unsqueeze(1), 0, negatives)
    candidates = torch.cat((others, targets.unsqueeze(1)), dim=1)
    return best_candidates(scores.gather(1, candidates), candidates, min(k, candidates.size(1)))


def best_candidates(scores: Tensor, candidates: Tensor, k: int) -> Tensor:
    """Return the ``k`` best of ``candidates`` by ``scores``, both ``[B, C]``; padding (item 0) comes last."""
    # Lower than any score of an item, also than the -inf of a model that rules an item out.
    scores = scores.clamp(min=torch.finfo(scores.dtype).min).masked_fill(candidates == 0, float("-inf"))
    return candidates.gather(1, scores.topk(k).indices)
