"""Test targets: slices that have something in common, to show where a gain comes from, and a few examples."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch

from recbole_session.compare.runs import Comparison
from recbole_session.data.dataset import SessionDataset
from recbole_session.data.stats import table_rows
from recbole_session.report.user_values import Column, ordered_ranks

N_BINS = 4
N_EACH = 5  # targets that gain most, and as many that lose most
N_RECENT = 3  # items of the history that are shown
EXAMPLE_COLUMNS = ("user", "before", "target", "opens_session", "baseline_rank", "rank")

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

    By ``user_id`` (raw, sorted; a user's targets by time): ``item_id`` (raw, the target); ``opens_session`` (bool, True
    where the target is the first item of a session); ``gap`` (int64, seconds between the last interaction of the
    history and the target); ``sessions`` and ``items`` (int64, of the history, validation included); ``popularity``
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
    return frame.sort_index(kind="stable")


def dataset_table(dataset: SessionDataset) -> list[tuple[str, str]]:
    """Lines of the paper's Table 1 for the rows that the runs were given, and the sizes of the test."""
    users, _ = dataset.samples["test"]
    n_users, n_targets = len(users.unique()), len(users)
    sizes = [("#test users", f"{n_users:,}"), ("#test targets", f"{n_targets:,}")]
    return [*table_rows(dataset.sequences), *sizes[: 1 + (n_targets > n_users)]]


def slice_users(facts: pd.DataFrame) -> dict[str, pd.Series]:
    """Sort the targets into slices: by fact, an ordered categorical ``[N]`` without empty categories.

    Gaps have fixed edges; numbers are cut at their quartiles, and the edges are in the names. Items that no training
    row has are a slice of their own, ``0``: a model that learns items by their ids knows nothing of them.
    """
    opens = np.where(facts["opens_session"], "first item", "later item")
    slices = {
        "opens_session": pd.Categorical(opens, ["first item", "later item"], ordered=True),
        "gap": pd.cut(facts["gap"].to_numpy(), [-np.inf, *_GAP_EDGES, np.inf], labels=_GAP_NAMES),
    }
    for fact in ("sessions", "items", "popularity"):
        values = facts[fact].to_numpy()
        quartiles = np.quantile(values, np.arange(1, N_BINS + 1) / N_BINS, method="inverted_cdf")
        zero = [0] if fact == "popularity" else []
        edges = np.unique([values.min() - 1, *zero, *quartiles]).astype(np.int64)  # of bins (low, high]
        ranges = zip(edges[:-1] + 1, edges[1:], strict=True)
        names = [f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in ranges]
        slices[fact] = pd.cut(values, edges, labels=names)
    return {fact: pd.Series(each.remove_unused_categories()) for fact, each in slices.items()}


def find_examples(comparison: Comparison, dataset: SessionDataset, row: str, column: Column) -> pd.DataFrame:
    """Test targets whose rank differs most between the baseline and ``row``, by their ratio: gains, then losses.

    The dataset has been built, with the test targets of the runs; ``column`` names the candidate set. The columns are
    `EXAMPLE_COLUMNS`: raw id of the user; names of the latest items of the history, oldest first, and of the target
    (raw ids where items have no names); whether the target opens a session; its ranks in the first seed that both rows
    have. Without such a seed there are no lines.
    """
    runs = [{run.seed: run for run in comparison.runs_of(name)} for name in (comparison.baseline, row)]
    seed = min(runs[0].keys() & runs[1].keys(), default=None)
    if seed is None:
        return pd.DataFrame(columns=list(EXAMPLE_COLUMNS))
    before, after = (ordered_ranks(each[seed])[f"rank_{column[0]}"].to_numpy(dtype=np.int64) for each in runs)
    gain = np.log(before) - np.log(after)
    by_gain = np.argsort(-gain, kind="stable")
    chosen = np.concatenate((by_gain[:N_EACH][gain[by_gain[:N_EACH]] > 0], by_gain[::-1][:N_EACH][::-1]))
    chosen = pd.unique(chosen[gain[chosen] != 0])

    sequences, (users, ends) = dataset.sequences, dataset.samples["test"]
    names = pd.Series(dataset.id2token(dataset.uid_field, users.numpy()), dtype=object)
    place = names.sort_values(kind="stable").index.to_numpy()[chosen]  # ranks are in this order
    titles, starts = dataset.titles(), sequences.starts_session()

    def named(items: Iterable[int]) -> str:
        ids = map(str, dataset.id2token(dataset.iid_field, np.fromiter(items, dtype=np.int64)))
        return " → ".join(titles.get(item) or item for item in ids)

    lines = []
    for user, end, *ranks in zip(
        users[place].tolist(), ends[place].tolist(), before[chosen], after[chosen], strict=True
    ):
        recent = sequences.items[max(int(sequences.offsets[user]), end - N_RECENT) : end].tolist()
        name, target = str(dataset.id2token(dataset.uid_field, user)), int(sequences.items[end])
        lines.append((name, named(recent), named([target]), bool(starts[end]), *map(int, ranks)))
    return pd.DataFrame(lines, columns=list(EXAMPLE_COLUMNS))
