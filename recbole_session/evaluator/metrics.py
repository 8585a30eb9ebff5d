"""RecBole's own metric classes, fed with ranks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from recbole.evaluator import Evaluator, Register
from recbole.evaluator.collector import DataStruct
from torch import Tensor

UNROUNDED = 15  # decimals; RecBole rounds where it computes, we round where we print


class RankMetrics:
    """Metrics of a candidate set from the rank of every user's target.

    Parameters
    ----------
    config : SessionConfig
        Reads ``metrics`` (any ranking metric of RecBole) and ``topk``.
    n_items : int
        Number of items, padding included.
    training_items : Tensor
        int64 ``[N]``, the item of every training row, for the metrics of popularity.
    """

    def __init__(self, config: Any, n_items: int, training_items: Tensor) -> None:
        self.max_k = max(config["topk"])
        register = Register(config)
        self.needs_items = register.need("rec.items")
        self._evaluator = Evaluator(config)
        for metric in self._evaluator.metric_class.values():
            metric.decimal_place = UNROUNDED
        self._facts = {"data.num_items": n_items, "data.count_items": Counter(training_items.tolist())}

    def __call__(self, ranks: Tensor, n_candidates: Tensor, items: Tensor | None = None) -> dict[str, float]:
        """Metric values by name, e.g. ``{"recall@10": 0.25}``.

        Parameters
        ----------
        ranks, n_candidates : Tensor
            int64 ``[n]``, see `ranking.candidate_ranks`.
        items : Tensor or None
            int64 ``[n, max(topk)]``, the recommended items, where `needs_items`.
        """
        hits = (ranks.unsqueeze(1) == torch.arange(1, self.max_k + 1)).int()  # [n, max_k], in order of rank
        data = DataStruct()
        data.set("rec.topk", torch.cat((hits, torch.ones(len(ranks), 1, dtype=torch.int)), dim=1))
        one = torch.ones_like(ranks)
        data.set("rec.meanrank", torch.stack((ranks, n_candidates, one), dim=1).double())
        if items is not None:
            data.set("rec.items", items)
        for name, value in self._facts.items():
            data.set(name, value)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {name: float(value) for name, value in self._evaluator.evaluate(data).items()}
