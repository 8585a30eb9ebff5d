"""A few test targets that show where two models differ, with the names of their items."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.data.dataset import SessionDataset
from recbole_session.report.user_values import Column, ordered_ranks

N_EACH = 5  # targets that gain most, and as many that lose most
N_RECENT = 3  # items of the history that are shown
COLUMNS = ("user", "before", "target", "opens_session", "baseline_rank", "rank")


def find_examples(comparison: Comparison, dataset: SessionDataset, row: str, column: Column) -> pd.DataFrame:
    """Test targets whose rank differs most between the baseline and ``row``, by their ratio: gains, then losses.

    The dataset has been built, with the test targets of the runs; ``column`` names the candidate set.

    Returns
    -------
    DataFrame
        `COLUMNS`: raw id of the user; names of the latest items of the history, oldest first, and of the target (raw
        ids where items have no names); whether the target opens a session; its ranks in the first seed that both rows
        have. Empty if there is no such seed.
    """
    runs = [{run.seed: run for run in comparison.runs_of(name)} for name in (comparison.baseline, row)]
    seeds = sorted(runs[0].keys() & runs[1].keys())
    if not seeds:
        return pd.DataFrame(columns=list(COLUMNS))
    before, after = (ordered_ranks(each[seeds[0]])[f"rank_{column[0]}"].to_numpy(dtype=np.int64) for each in runs)
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
    return pd.DataFrame(lines, columns=list(COLUMNS))
