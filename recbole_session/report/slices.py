"""Where a gain comes from: the metrics of users that have something in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_session.errors import InputError
from recbole_session.report.significance import bootstrap_means, percentile_interval
from recbole_session.report.user_values import UserValues

N_RESAMPLES = 2_000  # the interval of a slice needs no more, and there are many slices
N_BINS = 4

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_GAP_EDGES = (_MINUTE, _HOUR, _DAY, 7 * _DAY)

# Title of each fact of `facts.user_facts`, in the order of the report.
FACTS = {
    "opens_session": "place of the target in its session",
    "gap": "gap since the previous interaction",
    "sessions": "sessions in the history",
    "items": "items in the history",
    "popularity": "popularity of the target (training rows)",
}


@dataclass(frozen=True)
class Slice:
    """Users that share something: ``members`` are their places, int64, among the test users."""

    fact: str
    name: str
    members: NDArray[Any]


def slice_users(facts: pd.DataFrame) -> list[Slice]:
    """Sort the users into slices, fact by fact; each fact's slices hold every user once, and none is empty.

    Gaps have fixed edges; numbers are cut at their quartiles, and the edges are in the names.
    """
    opens = np.where(facts["opens_session"], "first item", "later item")
    slices = _slices("opens_session", opens, ["first item", "later item"])
    gap_names = ["1 minute or less", "1 minute to 1 hour", "1 hour to 1 day", "1 to 7 days", "more than 7 days"]
    slices += _slices("gap", np.array(gap_names)[np.searchsorted(_GAP_EDGES, facts["gap"])], gap_names)
    for fact in ("sessions", "items", "popularity"):
        values = facts[fact].to_numpy()
        edges = _quantile_edges(values)
        names = [_range_name(low, high) for low, high in zip(edges[:-1] + 1, edges[1:], strict=True)]
        slices += _slices(fact, np.array(names)[np.searchsorted(edges[1:], values)], names)
    return slices


def _slices(fact: str, labels: NDArray[Any], names: Sequence[str]) -> list[Slice]:
    found = [Slice(fact, name, np.flatnonzero(labels == name)) for name in names]
    return [entry for entry in found if len(entry.members)]


def _quantile_edges(values: NDArray[Any]) -> NDArray[Any]:
    """Edges of up to `N_BINS` bins ``(low, high]`` of whole numbers; the first lies one below the least value."""
    quantiles = np.quantile(values, np.arange(1, N_BINS + 1) / N_BINS, method="inverted_cdf")
    return np.unique(np.concatenate(([values.min() - 1], quantiles))).astype(np.int64)


def _range_name(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def slices_frame(values: UserValues, facts: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Metrics of every row within every slice.

    Parameters
    ----------
    values : UserValues
        As trained and tested; users in the order of ``facts``.
    facts : DataFrame
        See `facts.user_facts`.
    baseline : str
        Row that the others are compared with.

    Returns
    -------
    DataFrame
        A line per slice, row of the table and column: ``fact slice users row candidates metric mean``, and, but for
        the baseline, ``difference ci_low ci_high``: the difference from the baseline and its 95% bootstrap interval
        over the slice's users, not corrected for how many there are. Slices of one user have no interval.

    Raises
    ------
    InputError
        If the users or the targets of the facts are others.
    """
    if tuple(facts.index) != values.users or tuple(facts["item_id"]) != values.items:
        raise InputError(
            "the dataset has changed since the runs were trained: it has other test users or other targets"
        )
    lines = []
    whole = {name: values.mean_of(name) for name in values.by_row}
    for part in slice_users(facts):
        own = {name: matrix[part.members] for name, matrix in whole.items()}
        ends = _difference_ends(own, baseline)
        for name, matrix in own.items():
            for place, (candidates, metric) in enumerate(values.columns):
                line = {
                    "fact": part.fact,
                    "slice": part.name,
                    "users": len(part.members),
                    "row": name,
                    "candidates": candidates,
                    "metric": metric,
                    "mean": matrix[:, place].mean(),
                }
                if baseline in own and name != baseline:
                    line["difference"] = (matrix[:, place] - own[baseline][:, place]).mean()
                    line["ci_low"], line["ci_high"] = (end[place] for end in ends[name]) if ends else (None, None)
                lines.append(line)
    return pd.DataFrame(lines)


def _difference_ends(own: dict[str, NDArray[Any]], baseline: str) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Ends of the intervals of the differences from the baseline, ``[C]`` each, by row."""
    others = [name for name in own if name != baseline]
    if baseline not in own or not others or len(own[baseline]) < 2:
        return {}
    differences = np.stack([own[name] - own[baseline] for name in others], axis=1)  # [users, rows, C]
    means = bootstrap_means(differences.reshape(len(differences), -1), N_RESAMPLES)
    low, high = percentile_interval(means.reshape(N_RESAMPLES, *differences.shape[1:]))
    return {name: (low[place], high[place]) for place, name in enumerate(others)}
