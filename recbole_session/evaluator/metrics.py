"""RecBole's own metric classes, fed with ranks."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from recbole.evaluator import Evaluator, Register, register
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.collector import DataStruct
from torch import Tensor

from recbole_session.errors import InputError

UNROUNDED = 15  # decimals; RecBole rounds where it computes, we round where we print

Gain = Callable[[NDArray[np.float64], int], NDArray[np.float64]]

# One relevant item per list: the value of a target at its rank, if the rank is at most k; 0 otherwise.
GAINS: dict[str, Gain] = {
    "recall": lambda ranks, k: np.ones(ranks.shape),
    "hit": lambda ranks, k: np.ones(ranks.shape),
    "ndcg": lambda ranks, k: 1 / np.log2(ranks + 1),
    "mrr": lambda ranks, k: 1 / ranks,
    "map": lambda ranks, k: 1 / ranks,
    "precision": lambda ranks, k: np.full(ranks.shape, 1 / k),
}


def register_metric(name: str, gain: Gain) -> None:
    """Add a metric that depends on the target's rank alone.

    The key ``metrics`` then accepts the name, ``result.json`` holds ``<name>@<k>``, and comparisons treat it like
    NDCG, with intervals and tests over users. Call it in every process that trains or reports.

    Parameters
    ----------
    name : str
        Written in lower case in results; a name that was added before is replaced.
    gain : callable
        Takes ranks (float64 of any shape, 1 is best) and ``k``; returns the value of a target at each rank, float64
        of the same shape. The value beyond rank ``k`` is 0.

    Raises
    ------
    InputError
        If RecBole has a metric of that name.
    """
    name = name.lower()
    if not issubclass(register.metrics_dict.get(name, _GainMetric), _GainMetric):
        raise InputError(f"metric {name!r} is RecBole's; choose another name")
    GAINS[name] = gain
    register.metrics_dict[name] = type(name, (_GainMetric,), {"gain": staticmethod(gain)})
    register.metric_information[name] = _GainMetric.metric_need
    register.metric_types[name] = _GainMetric.metric_type


class _GainMetric(TopkMetric):
    """A metric of RecBole that sums ``gain`` over the places of the relevant items."""

    smaller = False
    gain: Gain

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """Return the mean over targets for every ``k``."""
        hits = self.used_info(dataobject)[0].mean(axis=0)  # [max_k], share of targets at each rank
        values = {k: hits[:k] @ self.gain(np.arange(1.0, k + 1), k) for k in self.topk}
        return {f"{type(self).__name__}@{k}": round(float(value), self.decimal_place) for k, value in values.items()}


class RankMetrics:
    """Metrics of a candidate set, any ranking metrics of RecBole, from the rank of every user's target.

    ``n_items`` counts the padding; ``training_items`` returns the item of every training row, int64 ``[N]``;
    it is called for the metrics of popularity alone.
    """

    def __init__(self, config: Any, n_items: int, training_items: Callable[[], Tensor]) -> None:
        self.max_k = max(config["topk"])
        register = Register(config)
        self.needs_items = register.need("rec.items")
        self._evaluator = Evaluator(config)
        for metric in self._evaluator.metric_class.values():
            metric.decimal_place = UNROUNDED
        self._facts: dict[str, Any] = {"data.num_items": n_items}
        if register.need("data.count_items"):
            # What `Counter(items.tolist())` gives, in the same order, without a Python object per row.
            counts = pd.Series(training_items().numpy()).value_counts(sort=False)
            self._facts["data.count_items"] = Counter(counts.to_dict())

    def __call__(self, ranks: Tensor, n_candidates: Tensor, items: Tensor | None = None) -> dict[str, float]:
        """Metric values by name, e.g. ``{"recall@10": 0.25}``, from int64 ``[n]`` each; see `ranking.rank_targets`.

        Where `needs_items`, ``items`` are the recommended ones, int64 ``[n, max(topk)]``.
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
