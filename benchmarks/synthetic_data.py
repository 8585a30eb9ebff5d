"""Three synthetic data sets that differ in one thing alone: what decides the next item.

Every user walks around a ring of items. Before each step three fair coins are tossed:

========= ==========================================  ======================
coin      what it decides, in every data set          where it can be seen
========= ==========================================  ======================
session   whether a new session begins                ``session_id``
elapsed   whether a long time passes, or a short one  ``timestamp``
neither   nothing                                     nowhere
========= ==========================================  ======================

The coin that the data set is named after decides, besides, which of two successors of the item comes next. So for
every kind the items are the same Markov chain, the sessions the same tosses and the gaps too; sessions have nothing
to do with time; and a column is either all that can be known or pure noise. A model that sees the items alone can do
no better than to name both successors: its best NDCG@10 is ``(1 + 1 / log2(3)) / 2 = 0.815`` for every kind, against
1 for one that sees the coin. From both neighbours of an item the coin can be told in half of the cases only, so that
a masked model has something to learn from it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_session.errors import InputError
from recbole_session.files import replacing

KINDS = ("session", "elapsed", "neither")
SHORT_GAPS = (1, 1)  # seconds, both ends included
LONG_GAPS = (4, 6)

# Keys of a SessionBERT4Rec that learns any of the three within seconds on one core.
SMALL_MODEL: dict[str, Any] = {
    "n_layers": 1,
    "n_heads": 2,
    "hidden_size": 32,
    "inner_size": 64,
    "hidden_dropout_prob": 0.0,
    "initializer_range": 0.15,
    "max_session_segments": 8,
    "temporal_dim": 64,
    "MAX_ITEM_LIST_LENGTH": 20,
    "mask_ratio": 0.4,
    "ft_ratio": 0.5,
    "epochs": 10,
    "eval_step": 2,
    "train_batch_size": 32,
    "learning_rate": 0.02,
    "eval_candidates": ["all"],
    "valid_candidates": "all",
}


def synthetic_rows(kind: str, n_users: int = 800, n_items: int = 20, n_rows: int = 15, seed: int = 0) -> pd.DataFrame:
    """Interactions of ``n_users`` users, ``n_rows`` each.

    Parameters
    ----------
    kind : str
        One of `KINDS`: which coin chooses the successor.
    n_users, n_items, n_rows : int
        The rows of a user include those for validation and test.
    seed : int
        Of all that is drawn, the order of the ring included. Kinds of one seed share their tosses.

    Returns
    -------
    DataFrame
        Columns ``user_id``, ``item_id``, ``session_id`` (str) and ``timestamp`` (int64, seconds since the user's first
        interaction), in order of user and time.

    Raises
    ------
    InputError
        For another kind, or so few items that the two successors or their successors would meet.
    """
    if kind not in KINDS:
        raise InputError(f"kind is {kind!r}; allowed: one of {', '.join(KINDS)}")
    if n_items < 12:
        raise InputError(f"n_items is {n_items}; allowed: a whole number of at least 12")
    generator = np.random.default_rng(seed)
    ring = generator.permutation(n_items)
    coins = generator.integers(0, 2, (len(KINDS), n_users, n_rows))
    opens, is_long = coins[KINDS.index("session")], coins[KINDS.index("elapsed")]
    short, long = (generator.integers(*gaps, (n_users, n_rows), endpoint=True) for gaps in (SHORT_GAPS, LONG_GAPS))
    starts = generator.integers(0, n_items, n_users)

    steps = np.where(coins[KINDS.index(kind)] == 1, _far_step(n_items), 1)
    gaps = np.where(is_long == 1, long, short)
    steps[:, 0], gaps[:, 0], opens[:, 0] = starts, 0, 1  # where, when and in which session a user begins
    return pd.DataFrame(
        {
            "user_id": _tokens("u", np.arange(n_users).repeat(n_rows)),
            "item_id": _tokens("i", ring[steps.cumsum(1) % n_items].ravel()),
            "session_id": _tokens("s", opens.ravel().cumsum()),
            "timestamp": gaps.cumsum(1).ravel(),
        }
    )


def _far_step(n_items: int) -> int:
    """Places on the ring to the second successor: one or two steps in a row lead to five different places."""
    return n_items // 3


def _tokens(letter: str, numbers: NDArray[np.int64]) -> list[str]:
    return [f"{letter}{number}" for number in numbers.tolist()]


def write_synthetic(kind: str, folder: Path, name: str | None = None, **sizes: int) -> Path:
    """Write a synthetic data set as an atomic file.

    Parameters
    ----------
    kind : str
        See `synthetic_rows`.
    folder : Path
        The ``data_path`` of runs.
    name : str, optional
        Of the dataset, by default ``synthetic-<kind>``.
    **sizes
        ``n_users n_items n_rows seed`` of `synthetic_rows`.

    Returns
    -------
    Path
        ``<folder>/<name>/<name>.inter``.
    """
    rows = synthetic_rows(kind, **sizes)
    name = name or f"synthetic-{kind}"
    path = folder / name / f"{name}.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    types = {"timestamp": "float"}
    rows.columns = [f"{column}:{types.get(column, 'token')}" for column in rows.columns]
    with replacing(path) as temporary:
        rows.to_csv(temporary, sep="\t", index=False)
    return path
