"""Per-user values of every row of a comparison, from the ranks of its runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_session.compare.runs import Comparison
from recbole_session.errors import InputError
from recbole_session.report.significance import Floats
from recbole_session.run.folder import CONTEXTS
from recbole_session.run.ranks import is_per_user, metric_of_ranks
from recbole_session.run.run import Run

Column = tuple[str, str]  # candidate set and metric, e.g. ("random", "ndcg@10")


@dataclass(frozen=True)
class UserValues:
    """Metric values of every test target, ordered by user, each user's targets by time.

    Leave one out has one target per user, other splits have several.
    """

    users: tuple[str, ...]  # [N], raw ids
    items: tuple[str, ...]  # [N], raw ids of the targets
    columns: tuple[Column, ...]  # those whose metric is a mean over targets
    by_row: dict[str, Floats]  # float64 [S, N, C], a matrix per seed; rows without results are missing

    @cached_property
    def weights(self) -> Floats:
        """Share of the targets that are a user's, times the number of users: float64 ``[U]``, of mean 1."""
        counts = np.diff(np.append(self._first, len(self.users)))
        return counts * (len(counts) / len(self.users))

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        """Place of each user's first target, ``[U]``."""
        users = np.array(self.users, dtype=object)
        return np.flatnonzero(np.append(True, users[1:] != users[:-1]))

    def subset(self, members: NDArray[np.bool_]) -> Self:
        """Return the values of some targets."""
        users, items = (tuple(np.array(ids, dtype=object)[members]) for ids in (self.users, self.items))
        return type(self)(users, items, self.columns, {row: each[:, members] for row, each in self.by_row.items()})

    def per_user(self, row: str) -> Floats:
        """A row's values by user, float64 ``[S, U, C]``, scaled so that their mean over users is that over targets."""
        sums = np.add.reduceat(self.by_row[row], self._first, axis=1)
        return sums * (len(self._first) / len(self.users))

    def mean_of(self, row: str) -> Floats:
        """A row's values by user, averaged over its seeds, float64 ``[U, C]``: every user counts once."""
        return self.per_user(row).mean(axis=0)

    def others(self, baseline: str) -> list[str]:
        """Rows to compare with the baseline; none where the baseline has no values."""
        return [row for row in self.by_row if row != baseline] if baseline in self.by_row else []

    def differences(self, baseline: str) -> Floats:
        """Values of the `others` less the baseline's, float64 ``[U, T]``: row by row, each with all columns."""
        rows = [self.mean_of(row) - self.mean_of(baseline) for row in self.others(baseline)]
        return np.concatenate(rows, axis=1) if rows else np.empty((len(self._first), 0))


def common_columns(runs: Sequence[Run]) -> list[Column]:
    """Candidate sets and metrics that all runs, at least one, have, in the order of the first."""
    results = [run.result["test"] for run in runs]
    return [
        (candidates, metric)
        for candidates, metrics in results[0].items()
        for metric in metrics
        if all(metric in other.get(candidates, ()) for other in results)
    ]


def read_user_values(comparison: Comparison, context: str = "told") -> UserValues:
    """Values of every row and seed, from the ranks of its runs, at least one of them; ``context`` as in `Run.ranks`.

    Runs that differ in their data, test users, targets or numbers of candidates cannot be paired: an `InputError`.
    """
    for run in comparison.runs:
        _check_same_data(run, comparison.runs[0])
    columns = [column for column in common_columns(comparison.runs) if is_per_user(column[1])]
    reference = ordered_ranks(comparison.runs[0], context)
    by_row: dict[str, Floats] = {}
    for name in comparison.names:
        of_seeds = []
        for run in comparison.runs_of(name):
            ranks = ordered_ranks(run, context)
            _check_pairs(reference, ranks, comparison.runs[0].folder, run.folder)
            values = [metric_of_ranks(ranks[f"rank_{candidates}"].to_numpy(), m) for candidates, m in columns]
            of_seeds.append(np.stack(values, axis=1) if values else np.empty((len(ranks), 0)))
        if of_seeds:
            by_row[name] = np.stack(of_seeds)
    return UserValues(tuple(reference.index), tuple(reference["item_id"]), tuple(columns), by_row)


def _check_same_data(run: Run, first: Run) -> None:
    """Refuse runs on different versions of the dataset, which the test users alone may not show."""
    ours, theirs = (each.result["dataset_checksum"] for each in (run, first))
    if ours != theirs:
        raise InputError(
            f"{run.folder} and {first.folder} used different versions of dataset {first.result['dataset']!r} "
            f"(dataset_checksum {ours[:12]!r} and {theirs[:12]!r}); train one of them again, or leave it out"
        )


def ordered_ranks(run: Run, context: str = CONTEXTS[0]) -> pd.DataFrame:
    """Ranks of a run by user, each user's targets by time; ``context`` as in `Run.ranks`."""
    return run.ranks(context).set_index("user_id").sort_index(kind="stable")


def _check_pairs(ours: pd.DataFrame, theirs: pd.DataFrame, our_folder: Path, their_folder: Path) -> None:
    if not ours.index.equals(theirs.index):
        what = "test users"
    else:
        shared = [name for name in ours if name == "item_id" or (name.startswith("candidates_") and name in theirs)]
        differing = next((name for name in shared if (ours[name] != theirs[name]).any()), None)
        if differing is None:
            return
        what = "targets" if differing == "item_id" else f"numbers of {differing.partition('_')[2]} candidates"
    raise InputError(
        f"{their_folder} and {our_folder} have different {what}, so their users cannot be compared in pairs; "
        "compare runs on the same dataset with the same eval_candidates and num_negatives"
    )
