"""Scores of all items for some rows, whole or in the factors of a matrix product.

A rank counts scores that are not below the target's, so that a tie wins nothing. Yet a matrix product may give two
items with equal weights scores that differ in their last bit, depending on shape, slice and kernel. `ScoreFactors`
therefore bounds the rounding error of its products. Whoever counts decides what lies within the bounds by
`ScoreFactors.exact`, which gives equal weights equal bits anywhere.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_session.compat import matmul_precision

# Bytes of whole scores held at once. Fewer rows would have a model read all its items' weights more often.
WHOLE_SCORES_BYTES = 128 * 2**20
PAIRS_AT_ONCE = 8192  # of a sequence and an item, for models that answer for one pair at a time
# Bytes of products held at once: on a CPU so few that they stay in its cache, elsewhere so many that the waits between
# slices do not count.
SCORES_BYTES, SCORES_BYTES_ELSEWHERE = 8 * 2**20, 256 * 2**20
# Gathering the weights of K items per row takes as long as multiplying those of this many times K items in blocks.
GATHERING_COSTS = 100
# Relative error of a product whose two factors are rounded first, where torch's settings allow that.
REDUCED_PRECISION = {"tf32": 2.0**-10, "bf16": 2.0**-7}


class Targets(NamedTuple):
    """The target of every row, and the bounds between which the order of the target and another score is open.

    ``items`` is int64 ``[B]``; ``scores``, ``low`` and ``high`` are ``[B, 1]``.
    """

    items: Tensor
    scores: Tensor
    low: Tensor
    high: Tensor


class WholeScores(NamedTuple):
    """Scores of all items as a model gives them, ``[B, n_items]``; column 0 is padding. No order of them is open."""

    scores: Tensor

    def locate(self, items: Tensor) -> Targets:
        """Score the targets ``items``, int64 ``[B]``."""
        scores = self.scores.gather(1, items.unsqueeze(1))
        return Targets(items, scores, scores, scores)

    def slices(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Scores of all items but padding, ``([B, c], items [c])``, in one slice."""
        yield self.scores[:, 1:], torch.arange(1, self.scores.size(1), device=self.scores.device)

    def of(self, items: Tensor) -> Tensor:
        """Scores of some items per row, int64 ``[B, K]`` -> ``[B, K]``."""
        return self.scores.gather(1, items)


class ScoreFactors(NamedTuple):
    """Scores of all items in factors, ``states @ weight.T + bias``; row 0 of the items is padding.

    ``states`` is ``[B, d]``, ``weight`` ``[n_items, d]``, ``bias`` ``[n_items]``. Only some scores are held at once.
    """

    states: Tensor
    weight: Tensor
    bias: Tensor

    def locate(self, items: Tensor) -> Targets:
        """Score the targets ``items``, int64 ``[B]``, and bound the error of any product against them.

        The error of a dot product of ``d`` terms, in whatever order, is at most ``d u |x| |w|`` with the unit roundoff
        ``u`` (N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1). The bounds are
        twice as wide.
        """
        states, weight, bias = self
        scores = self.exact(torch.arange(len(items), device=items.device), items).unsqueeze(1)  # [B, 1]
        unit = torch.finfo(states.dtype).eps * (states.size(1) + 4)
        if states.dtype == torch.float32:
            unit += 2 * REDUCED_PRECISION.get(matmul_precision(states.is_cuda), 0.0)
        sizes = states.norm(dim=1, keepdim=True).double() * weight.norm(dim=1).max() + bias.abs().max()  # [B, 1]
        error = unit * sizes + torch.finfo(states.dtype).tiny
        low, high = ((scores + side * error).to(states.dtype) for side in (-1, 1))
        return Targets(items, scores, low, high)

    def exact(self, rows: Tensor, items: Tensor) -> Tensor:
        """Scores of pairs, int64 ``[P]`` each, in float64, added up in an order that depends on ``d`` alone.

        Halves are added to halves, element by element. ``sum`` and matrix products choose their order by shape and
        device; this gives equal bits for equal weights in every call.
        """
        states, weight, bias = self
        step = _rows_at_once(states, 8 * states.size(1))
        parts = [torch.empty(0, dtype=torch.float64, device=states.device)]
        for some_rows, some_items in zip(rows.split(step), items.split(step), strict=True):
            terms = states[some_rows].double() * weight[some_items].double()  # [<= step, d]
            while terms.size(1) > 1:
                terms = F.pad(terms, (0, terms.size(1) % 2))
                half = terms.size(1) // 2
                terms = terms[:, :half] + terms[:, half:]
            parts.append(terms[:, 0] + bias[some_items].double())
        return torch.cat(parts)

    def slices(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Products over slices of all items but padding, ``([B, c], items [c])``."""
        states, weight, bias = self
        width = _rows_at_once(states, states.element_size() * len(states))
        for start in range(1, len(weight), width):
            items = torch.arange(start, min(start + width, len(weight)), device=states.device)
            yield F.linear(states, weight[start : start + width], bias[start : start + width]), items

    def of(self, items: Tensor) -> Tensor:
        """Products of some items per row, int64 ``[B, K]`` -> ``[B, K]``, in the faster of two ways."""
        states, weight, bias = self
        multiplies = len(weight) < GATHERING_COSTS * items.size(1)
        width = len(weight) if multiplies else states.size(1) * items.size(1)
        parts = []
        step = _rows_at_once(states, states.element_size() * width)
        for some_items, some_states in zip(items.split(step), states.split(step), strict=True):
            if multiplies:
                parts.append(F.linear(some_states, weight, bias).gather(1, some_items))
            else:
                products = torch.bmm(F.embedding(some_items, weight), some_states.unsqueeze(2)).squeeze(2)
                parts.append(products + bias[some_items])
        return torch.cat(parts)


Scores = WholeScores | ScoreFactors


def _rows_at_once(states: Tensor, bytes_per_row: int) -> int:
    n_bytes = SCORES_BYTES if states.device.type == "cpu" else SCORES_BYTES_ELSEWHERE
    return max(1, n_bytes // max(bytes_per_row, 1))


def has_score_factors(model: Any) -> bool:
    """Whether ``model.score_factors`` gives the scores of ``model.full_sort_predict``.

    It does not if a subclass scores in another way and overrides only the latter.
    """
    owners = [kind for kind in type(model).__mro__ if {"score_factors", "full_sort_predict"} & vars(kind).keys()]
    return bool(owners) and "score_factors" in vars(owners[0])


def item_scores(model: Any, batch: Any, n_items: int, item_field: str) -> Tensor:
    """Scores of all items ``[B, n_items]`` for a batch of ``B`` rows.

    A model without ``full_sort_predict`` is asked item by item; its ``predict`` reads the item from ``item_field``.
    """
    try:
        scores = model.full_sort_predict(batch)
    except NotImplementedError:
        device = next(iter(batch.interaction.values())).device
        parts = []
        for pairs in torch.arange(len(batch) * n_items, device=device).split(PAIRS_AT_ONCE):
            rows = batch[pairs // n_items]
            rows[item_field] = pairs % n_items
            parts.append(model.predict(rows))
        scores = torch.cat(parts)
    return scores.view(-1, n_items)


def scores_of(model: Any, batch: Any, n_items: int, item_field: str) -> Iterator[tuple[Any, Scores]]:
    """Pieces of a batch and their scores: in factors for all rows at once, where the model gives these.

    Else the float32 scores of a piece take `WHOLE_SCORES_BYTES` at most, or it is a single row.
    """
    if has_score_factors(model):
        yield batch, ScoreFactors(*model.score_factors(batch))
        return
    step = max(1, WHOLE_SCORES_BYTES // (4 * n_items))
    for start in range(0, len(batch), step):
        rows = batch[start : start + step]
        yield rows, WholeScores(item_scores(model, rows, n_items, item_field))
