"""Test targets that have something in common, so that a report can show where a gain comes from."""

import numpy as np
import pandas as pd
import torch

from recbole_session.data.dataset import SessionDataset
from recbole_session.data.stats import Interactions, table_rows

N_BINS = 4

_GAP_EDGES = (60, 3_600, 86_400, 7 * 86_400)  # seconds
_GAP_NAMES = ("1 minute or less", "1 minute to 1 hour", "1 hour to 1 day", "1 to 7 days", "more than 7 days")

# Title of each fact of `user_facts`, in the order of the report.
FACTS = {
    "opens_session": "place of the target in its session",
    "gap": "gap since the previous interaction",
    "sessions": "sessions in the history",
    "items": "items in the history",
    "popularity": "popularity of the target (training rows)",
}


def user_facts(dataset: SessionDataset) -> pd.DataFrame:
    """Facts of the test split of a built dataset, a row per target.

    Returns
    -------
    DataFrame
        Indexed by ``user_id`` (raw, sorted; a user's targets by time): ``item_id`` (raw, the target);
        ``opens_session`` (bool, True where the target is the first item of a session); ``gap`` (int64, seconds between
        the last interaction of the history and the target); ``sessions`` and ``items`` (int64, of the history,
        validation included); ``popularity`` (int64, training rows of all users that hold the target).
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
    return frame.sort_index(kind="stable")


def dataset_table(dataset: SessionDataset) -> list[tuple[str, str]]:
    """Lines of the paper's Table 1 for the rows that the runs were given, and the sizes of the test."""
    sequences = dataset.sequences
    owner = torch.arange(sequences.n_users).repeat_interleave(sequences.lengths)
    data = Interactions(
        users=owner.numpy() - 1,  # 0 is padding
        items=sequences.items.numpy() - 1,
        times=sequences.times.numpy(),
        starts=sequences.starts_session().numpy(),
    )
    users, _ = dataset.samples["test"]
    n_users, n_targets = len(users.unique()), len(users)
    sizes = [("#test users", f"{n_users:,}"), ("#test targets", f"{n_targets:,}")]
    return [*table_rows(data), *sizes[: 1 + (n_targets > n_users)]]


def slice_users(facts: pd.DataFrame) -> dict[str, pd.Series]:
    """Sort the targets into slices, fact by fact.

    Gaps have fixed edges; numbers are cut at their quartiles, and the edges are in the names.

    Returns
    -------
    dict of Series
        By fact: every target's slice, an ordered categorical ``[N]`` without empty categories.
    """
    opens = np.where(facts["opens_session"], "first item", "later item")
    slices = {
        "opens_session": pd.Categorical(opens, ["first item", "later item"], ordered=True),
        "gap": pd.cut(facts["gap"].to_numpy(), [-np.inf, *_GAP_EDGES, np.inf], labels=_GAP_NAMES),
    }
    for fact in ("sessions", "items", "popularity"):
        values = facts[fact].to_numpy()
        quartiles = np.quantile(values, np.arange(1, N_BINS + 1) / N_BINS, method="inverted_cdf")
        edges = np.unique([values.min() - 1, *quartiles]).astype(np.int64)  # of bins (low, high] of whole numbers
        ranges = zip(edges[:-1] + 1, edges[1:], strict=True)
        names = [f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in ranges]
        slices[fact] = pd.cut(values, edges, labels=names)
    return {fact: pd.Series(each.remove_unused_categories()) for fact, each in slices.items()}
