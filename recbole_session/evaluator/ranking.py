"""Ranks of the target among its candidates, all sets from the same scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
        n_rows = len(batch)
        pairs = batch.repeat_interleave(n_items)
        device = next(iter(batch.interaction.values())).device
        pairs[item_field] = torch.arange(n_items, device=device).repeat(n_rows)
        scores = model.predict(pairs)
    return scores.view(-1, n_items)


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
        is_candidate = torch.ones_like(scores, dtype=torch.bool)
        is_candidate[:, 0] = False
        is_candidate.scatter_(1, targets.unsqueeze(1), False)
        candidate_scores = scores
    else:
        is_candidate = (negatives != 0) & (negatives != targets.unsqueeze(1))
        candidate_scores = scores.gather(1, negatives)
    above = ~(candidate_scores < target_scores) & is_candidate
    return above.sum(1) + 1, is_candidate.sum(1) + 1


def top_items(scores: Tensor, targets: Tensor, negatives: Tensor | None, k: int) -> Tensor:
    """Return the ``k`` best items of each candidate set, best first, int64 ``[B, min(k, candidates)]``.

    Parameters as in `candidate_ranks`; padding comes only where a set has fewer than ``k`` items.
    """
    if negatives is None:
        candidates = torch.arange(scores.size(1), device=scores.device).expand_as(scores)
    else:
        others = torch.where(negatives == targets.unsqueeze(1), 0, negatives)
        candidates = torch.cat((others, targets.unsqueeze(1)), dim=1)
    # Lower than any score of an item, also than the -inf of a model that rules an item out.
    candidate_scores = scores.gather(1, candidates).clamp(min=torch.finfo(scores.dtype).min)
    candidate_scores = candidate_scores.masked_fill(candidates == 0, float("-inf"))
    n_items = scores.size(1) - 1 if negatives is None else candidates.size(1)
    return candidates.gather(1, candidate_scores.topk(min(k, n_items)).indices)
