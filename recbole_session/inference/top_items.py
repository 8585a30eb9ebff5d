"""The best items of a row of scores, in an order that nothing but the scores and the ids decides."""

from __future__ import annotations

from torch import Tensor


def best_items(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` best items of each row; of equal scores the smaller id goes first, chosen or listed.

    ``torch.topk`` leaves open which of equal scores it takes, and a stable sort of everything takes
    ``n log n``; here the sort is of ``k`` items.

    Parameters
    ----------
    scores : Tensor
        ``[B, n_items]``; what may not be recommended is -inf. A score that is not a number counts as -inf.
    k : int
        At most ``n_items``.

    Returns
    -------
    items : Tensor
        int64 ``[B, k]``, best first.
    scores : Tensor
        ``[B, k]``; -inf where nothing is left to recommend.
    """
    scores = scores.masked_fill(scores.isnan(), float("-inf"))
    threshold = scores.topk(k, dim=1).values[:, -1:]  # [B, 1]
    above, at = scores > threshold, scores == threshold
    room = k - above.sum(1, keepdim=True)
    chosen = above | (at & (at.cumsum(1) <= room))  # exactly k per row
    items = chosen.nonzero()[:, 1].view(-1, k)  # by id
    values, order = scores.gather(1, items).sort(dim=1, descending=True, stable=True)
    return items.gather(1, order), values
