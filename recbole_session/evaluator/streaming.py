"""Ranks from a model's states and its output layer, over slices of the items: scores are never all held at once.

A rank counts scores that are not below the target's, so that a tie wins nothing. Yet a matrix product gives two items
with equal weights scores that may differ in their last bit, depending on shape, slice and kernel. Here the product,
whose rounding error is bounded, only sorts out the pairs that are clearly apart. What lies within the bound is
decided by `exact_scores`, in which equal weights give equal bits anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_session.compat import matmul_precision
from recbole_session.evaluator.ranking import best_candidates

# Bytes of scores held at once: on a CPU so few that they stay in its cache, elsewhere so many that the waits between
# slices do not count.
SCORES_BYTES, SCORES_BYTES_ELSEWHERE = 8 * 2**20, 256 * 2**20
# To gather the weights of K items per row takes as long as to multiply those of this many times K items in blocks.
GATHERING_COSTS = 100
# Relative error of a product whose two factors are rounded first, where torch's settings allow that.
REDUCED_PRECISION = {"tf32": 2.0**-10, "bf16": 2.0**-7}


class Targets(NamedTuple):
    """The target of every row, and the bounds between which a product leaves the order of two scores open.

    Attributes
    ----------
    items : Tensor
        int64 ``[B]``.
    scores, low, high : Tensor
        ``[B, 1]``; scores in float64, the bounds in the dtype of the states.
    """

    items: Tensor
    scores: Tensor
    low: Tensor
    high: Tensor


class ScoreFactors(NamedTuple):
    """Scores of all items, ``states @ weight.T + bias``, in factors; row 0 of the items is padding.

    Attributes
    ----------
    states : Tensor
        ``[B, d]``.
    weight : Tensor
        ``[n_items, d]``.
    bias : Tensor
        ``[n_items]``.
    """

    states: Tensor
    weight: Tensor
    bias: Tensor


def scores_bytes(device: torch.device) -> int:
    """How many bytes of scores to hold at once."""
    return SCORES_BYTES if device.type == "cpu" else SCORES_BYTES_ELSEWHERE


def has_score_factors(model: Any) -> bool:
    """Whether ``model.score_factors`` speaks for ``model.full_sort_predict``.

    It does not where a subclass scores in another way and overrides only the latter.
    """
    owners = [kind for kind in type(model).__mro__ if {"score_factors", "full_sort_predict"} & vars(kind).keys()]
    return bool(owners) and "score_factors" in vars(owners[0])


def exact_scores(factors: ScoreFactors, rows: Tensor, items: Tensor) -> Tensor:
    """Scores of pairs in float64, added up in an order that depends on ``d`` alone.

    Halves are added to halves, element by element: unlike ``sum`` or a matrix product, which choose their order by
    shape and device, this gives equal bits for equal weights in every call.

    Parameters
    ----------
    factors : ScoreFactors
    rows, items : Tensor
        int64 ``[P]``.

    Returns
    -------
    Tensor
        float64 ``[P]``.
    """
    states, weight, bias = factors
    step = max(1, scores_bytes(states.device) // (8 * states.size(1)))
    parts = [torch.empty(0, dtype=torch.float64, device=states.device)]
    for some_rows, some_items in zip(rows.split(step), items.split(step), strict=True):
        terms = states[some_rows].double() * weight[some_items].double()  # [<= step, d]
        while terms.size(1) > 1:
            terms = F.pad(terms, (0, terms.size(1) % 2))
            half = terms.size(1) // 2
            terms = terms[:, :half] + terms[:, half:]
        parts.append(terms[:, 0] + bias[some_items].double())
    return torch.cat(parts)


def locate_targets(factors: ScoreFactors, items: Tensor) -> Targets:
    """Score the targets ``items`` (int64 ``[B]``) and bound the error of any product against them.

    The error of a dot product of ``d`` terms, in whatever order, is at most ``d u |x| |w|`` with the unit roundoff
    ``u`` (N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1); twice that is left.
    """
    states, weight, bias = factors
    scores = exact_scores(factors, torch.arange(len(items), device=items.device), items).unsqueeze(1)  # [B, 1]
    unit = torch.finfo(states.dtype).eps * (states.size(1) + 4)
    if states.dtype == torch.float32:
        unit += 2 * REDUCED_PRECISION.get(matmul_precision(states.is_cuda), 0.0)
    sizes = states.norm(dim=1, keepdim=True).double() * weight.norm(dim=1).max() + bias.abs().max()  # [B, 1]
    error = unit * sizes + torch.finfo(states.dtype).tiny
    low, high = ((scores + side * error).to(states.dtype) for side in (-1, 1))
    return Targets(items, scores, low, high)


def count_not_below(
    factors: ScoreFactors, targets: Targets, products: Tensor, items: Tensor, is_candidate: Tensor | None = None
) -> Tensor:
    """How many candidates of each row score as much as the target or more, or no number; int64 ``[B]``.

    Parameters
    ----------
    factors, targets
    products : Tensor
        ``[B, C]``, scores with the error of a matrix product.
    items : Tensor
        int64, broadcast to ``[B, C]``: whose scores they are.
    is_candidate : Tensor or None
        bool ``[B, C]``, True where there is an item that counts; None for all, which are then a range of items.
    """
    below, above = products < targets.low, products > targets.high
    if is_candidate is None:
        is_own = (items[0] <= targets.items) & (targets.items <= items[-1])  # the target itself is no open question
    else:
        is_own = torch.zeros_like(targets.items, dtype=torch.bool)
        below |= ~is_candidate
        above &= is_candidate
    # Counted in int32, in which torch is several times faster over long rows than in int64.
    not_below = products.size(1) - below.sum(1, dtype=torch.int32)
    is_open = (above.sum(1, dtype=torch.int32) + is_own < not_below) & ~targets.scores[:, 0].isnan()
    open_rows = is_open.nonzero()[:, 0]
    places, columns = (~(below[open_rows] | above[open_rows])).nonzero(as_tuple=True)
    rows = open_rows[places]
    scores = exact_scores(factors, rows, items.expand_as(products)[rows, columns])
    return not_below - torch.bincount(rows[scores < targets.scores[rows, 0]], minlength=len(products))


def slices(factors: ScoreFactors) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores by matrix product over slices of all items but padding: ``([B, c], items [c])``."""
    states, weight, bias = factors
    width = max(1, scores_bytes(states.device) // (states.element_size() * max(len(states), 1)))
    for start in range(1, len(weight), width):
        part = slice(start, min(start + width, len(weight)))
        items = torch.arange(part.start, part.stop, device=states.device)
        yield F.linear(states, weight[part], bias[part]), items


def gathered_products(factors: ScoreFactors, items: Tensor) -> Tensor:
    """Scores of some items per row, int64 ``[B, K]`` -> ``[B, K]``, without those of the others."""
    states, weight, bias = factors
    step = max(1, scores_bytes(states.device) // (states.element_size() * states.size(1) * max(items.size(1), 1)))
    parts = [
        torch.bmm(F.embedding(some_items, weight), some_states.unsqueeze(2)).squeeze(2)
        for some_items, some_states in zip(items.split(step), states.split(step), strict=True)
    ]
    return torch.cat(parts) + bias[items]


def multiplied_products(factors: ScoreFactors, items: Tensor) -> Tensor:
    """The same as `gathered_products`, sooner where there are few others."""
    states, weight, bias = factors
    step = max(1, scores_bytes(states.device) // (states.element_size() * len(weight)))
    parts = [
        F.linear(some_states, weight, bias).gather(1, some_items)
        for some_items, some_states in zip(items.split(step), states.split(step), strict=True)
    ]
    return torch.cat(parts)


def rank_among_all(factors: ScoreFactors, targets: Targets, negatives: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Rank among all items, and on the way the products of some of them.

    Parameters
    ----------
    factors, targets, k
    negatives : Tensor
        int64 ``[B, K]``.

    Returns
    -------
    found : Tensor
        int64 ``[B, 2 + min(k, n_items - 1)]``: rank, number of candidates and the ``k`` best items.
    products : Tensor
        ``[B, K]``, scores of the negatives by matrix product; 0 for padding.
    """
    ranks = torch.zeros_like(targets.items)
    n_candidates = torch.full_like(ranks, len(factors.weight) - 1)
    best, best_scores = ranks.new_empty(len(ranks), 0), factors.states.new_empty(len(ranks), 0)
    kept = factors.states.new_zeros(negatives.shape)
    for products, items in slices(factors):
        ranks += count_not_below(factors, targets, products, items)  # the target is not below itself: 1 is best
        places = negatives - items[0]
        inside = (places >= 0) & (places < len(items))
        kept = torch.where(inside, products.gather(1, places.clamp(0, len(items) - 1)), kept)
        if k:
            values, columns = products.topk(min(k, len(items)))
            best, best_scores = torch.cat((best, items[columns]), dim=1), torch.cat((best_scores, values), dim=1)
            best_scores, order = best_scores.topk(min(k, best.size(1)))
            best = best.gather(1, order)
    return torch.cat((torch.stack((ranks, n_candidates), dim=1), best), dim=1), kept


def rank_among(factors: ScoreFactors, targets: Targets, negatives: Tensor, products: Tensor, k: int) -> Tensor:
    """Rank, number of candidates and the ``k`` best items, int64 ``[B, 2 + min(k, K + 1)]``.

    Parameters
    ----------
    factors, targets, k
    negatives : Tensor
        int64 ``[B, K]``, 0 where there is none.
    products : Tensor
        ``[B, K]``, their scores by matrix product.
    """
    is_candidate = (negatives != 0) & (negatives != targets.items.unsqueeze(1))
    ranks = count_not_below(factors, targets, products, negatives, is_candidate) + 1
    columns = [torch.stack((ranks, is_candidate.sum(1) + 1), dim=1)]
    if k:
        items = torch.cat((negatives * is_candidate, targets.items.unsqueeze(1)), dim=1)
        products = torch.cat((products, targets.scores.to(products.dtype)), dim=1)
        columns.append(best_candidates(products, items, min(k, items.size(1))))
    return torch.cat(columns, dim=1)


def rank_targets(factors: ScoreFactors, targets: Tensor, tables: Sequence[Tensor | None], k: int = 0) -> list[Tensor]:
    """Rank the targets in several candidate sets; memory does not grow with the number of items.

    Parameters
    ----------
    factors : ScoreFactors
    targets : Tensor
        int64 ``[B]``.
    tables : sequence of Tensor or None
        By candidate set: negatives, int64 ``[B, K]`` with 0 where there is none; None for every item.
    k : int
        How many of the best items to list.

    Returns
    -------
    list of Tensor
        By candidate set: int64 ``[B, 2 + columns]`` with the rank and the number of candidates, as
        `ranking.candidate_ranks` defines them, and the best items, as `ranking.top_items` does.
    """
    states, weight, bias = factors
    with torch.autocast(states.device.type, enabled=False):
        factors = ScoreFactors(states.to(weight.dtype), weight, bias)
        located = locate_targets(factors, targets)
        given = [table for table in tables if table is not None]
        negatives = torch.cat((targets.new_empty(len(targets), 0), *given), dim=1)
        if len(given) < len(tables):
            among_all, products = rank_among_all(factors, located, negatives, k)
        elif len(weight) < GATHERING_COSTS * negatives.size(1):
            products = multiplied_products(factors, negatives)
        else:
            products = gathered_products(factors, negatives)
        parts = iter(products.split([table.size(1) for table in given], dim=1))
        return [among_all if table is None else rank_among(factors, located, table, next(parts), k) for table in tables]
