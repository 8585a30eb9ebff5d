"""What the test users of a dataset are like, so that metrics can be told apart by it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from recbole_session.converters.stats import Interactions, table_rows
from recbole_session.data.dataset import SessionDataset


def user_facts(dataset: SessionDataset) -> pd.DataFrame:
    """Facts of the test split, a row per user.

    Parameters
    ----------
    dataset : SessionDataset
        After `SessionDataset.build`.

    Returns
    -------
    DataFrame
        Indexed by ``user_id`` (raw, sorted): ``item_id`` (raw, the target); ``opens_session`` (bool, True where the
        target is the first item of a session); ``gap`` (int64, seconds between the last interaction of the history
        and the target); ``sessions`` and ``items`` (int64, of the history, validation item included); ``popularity``
        (int64, training rows of all users that hold the target).
    """
    sequences = dataset.sequences
    users, ends = dataset.samples["test"]
    starts = sequences.starts_session()
    sessions_before = torch.cat((torch.zeros(1, dtype=torch.int64), starts.long().cumsum(0)))  # [N + 1], of all users
    first_rows = sequences.offsets[users]
    targets = sequences.items[ends]
    popularity = torch.bincount(dataset.training_items(), minlength=dataset.item_num)[targets]
    frame = pd.DataFrame(
        {
            "item_id": dataset.id2token(dataset.iid_field, targets.numpy()),
            "opens_session": starts[ends].numpy(),
            "gap": (sequences.times[ends] - sequences.times[ends - 1]).numpy(),
            "sessions": (sessions_before[ends] - sessions_before[first_rows]).numpy(),
            "items": (ends - first_rows).numpy(),
            "popularity": popularity.numpy(),
        },
        index=pd.Index(np.asarray(dataset.id2token(dataset.uid_field, users.numpy()), dtype=object), name="user_id"),
    )
    return frame.sort_index()


def dataset_table(dataset: SessionDataset) -> list[tuple[str, str]]:
    """Lines of the paper's Table 1 for the rows that the runs were given, and the number of test users."""
    sequences = dataset.sequences
    owner = torch.arange(sequences.n_users).repeat_interleave(sequences.lengths)
    data = Interactions(
        users=owner.numpy() - 1,  # 0 is padding
        items=sequences.items.numpy() - 1,
        times=sequences.times.numpy(),
        starts=sequences.starts_session().numpy(),
    )
    n_test = len(dataset.samples["test"][0])
    return [*table_rows(data), ("#test users", f"{n_test:,}")]
