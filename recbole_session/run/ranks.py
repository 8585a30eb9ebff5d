"""Ranks of a split: their file, and the metrics that follow from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_session.data.dataset import SessionDataset
from recbole_session.errors import InputError
from recbole_session.evaluator.metrics import GAINS
from recbole_session.evaluator.ranking_evaluator import SplitRanks
from recbole_session.run.schema import damaged

TOLERANCE = 1e-6  # between a metric of result.json and the same from ranks


def is_per_user(metric: str) -> bool:
    """Whether ``metric``, e.g. ``ndcg@10``, is a mean over targets of something that the rank alone decides."""
    return metric.partition("@")[0] in GAINS


def metric_of_ranks(ranks: NDArray[Any], metric: str) -> NDArray[np.float64]:
    """Value of a metric for every target, float64 of the shape of ``ranks``; its mean is the metric of ``result.json``.

    ``ranks`` are those of the one relevant item, 1 is best; ``metric`` is ``<name>@<k>``, see `is_per_user`.
    """
    name, _, cut = metric.partition("@")
    return np.where(ranks <= int(cut), GAINS[name](np.asarray(ranks, dtype=np.float64), int(cut)), 0.0)


def ranks_csv(dataset: SessionDataset, split: SplitRanks) -> str:
    """Return what `read_ranks` reads: per target its rank and the number of candidates in every candidate set."""
    columns = {
        "user_id": dataset.id2token(dataset.uid_field, split.users.numpy()),
        "item_id": dataset.id2token(dataset.iid_field, split.items.numpy()),
    }
    for name, ranks in split.ranks.items():
        columns[f"rank_{name}"] = ranks.numpy()
        columns[f"candidates_{name}"] = split.n_candidates[name].numpy()
    return pd.DataFrame(columns).to_csv(index=False)


def read_ranks(path: Path) -> pd.DataFrame:
    """Read a file of ranks: a row per target, ordered by user and time; anything else is an `InputError`.

    The columns are ``user_id`` and ``item_id`` (raw ids, str), and for every candidate set ``rank_<set>`` (int64, 1 is
    best) and ``candidates_<set>`` (int64).
    """
    try:
        frame = pd.read_csv(path, dtype={"user_id": str, "item_id": str}, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{path} cannot be read: {reason}; train this run again") from error
    if problem := _problem_of(frame):
        raise damaged(path, problem)
    return frame


def _problem_of(frame: pd.DataFrame) -> str:
    """Say what is wrong with a table of ranks; empty if nothing is."""
    sets = _candidate_sets(frame)
    expected = ["user_id", "item_id", *(f"{kind}_{name}" for name in sets for kind in ("rank", "candidates"))]
    if list(frame) != expected or not sets or not isinstance(frame.index, pd.RangeIndex):  # pandas took ids as index
        names = ascii(", ".join(frame))[1:-1]  # bytes of a damaged file stay on one line
        return f"its columns are {names}, and must be user_id, item_id, rank_<set>, candidates_<set>, ..."
    users = frame["user_id"]
    first = users[users != users.shift()]  # of the rows of a user, which follow one another
    if first.duplicated().any():
        return f"the rows of user {first[first.duplicated()].iloc[0]!r} do not follow one another"
    for name in sets:
        ranks, counts = frame[f"rank_{name}"], frame[f"candidates_{name}"]
        if any(column.dtype != np.int64 for column in (ranks, counts)) or not ((ranks >= 1) & (ranks <= counts)).all():
            return f"rank_{name} must hold whole numbers from 1 to candidates_{name}"
    return ""


def _candidate_sets(frame: pd.DataFrame) -> list[str]:
    return [name.removeprefix("rank_") for name in frame if name.startswith("rank_")]


def check_metrics(path: Path, ranks: pd.DataFrame, metrics: Mapping[str, Mapping[str, float]], source: str) -> None:
    """Refuse ranks, read from ``path``, that do not give the metrics that are written beside them.

    ``metrics`` are those of the file ``source``, by candidate set and name. Those that depend on more than a rank are
    left out.
    """
    sets = _candidate_sets(ranks)
    if sets != list(metrics):
        raise InputError(
            f"{path} ranks among {', '.join(sets)}, and {source} beside it among {', '.join(metrics)}; "
            "train this run again"
        )
    for name, values in metrics.items():
        for metric in filter(is_per_user, values):
            found = float(metric_of_ranks(ranks[f"rank_{name}"].to_numpy(), metric).mean())
            if not abs(found - values[metric]) <= TOLERANCE:
                raise InputError(
                    f"{path} gives {metric} = {found:.6f} among {name}, and {source} beside it says "
                    f"{values[metric]:.6f}; train this run again"
                )
