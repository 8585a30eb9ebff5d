"""What a comparison's table and report are made of: per-user values of every row, and the statistics of each cell."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_session.errors import InputError
from recbole_session.experiment.runs import Comparison, FinishedRun
from recbole_session.experiment.significance import (
    Floats,
    bootstrap_means,
    effect_size,
    holm,
    is_per_user,
    metric_of_ranks,
    percentile_interval,
    randomisation_test,
)

Column = tuple[str, str]  # candidate set and metric, e.g. ("random", "ndcg@10")
Interval = tuple[float, float]

LOWER_IS_BETTER = {"averagepopularity", "giniindex"}
ALPHA = 0.05


@dataclass(frozen=True)
class Versus:
    """A row against the baseline, in one column.

    Attributes
    ----------
    difference : float
        Mean over users of the row's value less the baseline's.
    interval : tuple of float
        95% bootstrap interval of ``difference``.
    p, p_holm : float
        Of the paired randomisation test, as it is and after Holm's correction over the whole table.
    exact : bool
        True where every sign flip was enumerated.
    d_z, improved, worsened : float
        See `significance.Effect`.
    seeds_better, seeds_worse, seeds_paired : int
        In how many of the seeds that both have, the row's metric is better, and worse, than the baseline's.
    """

    difference: float
    interval: Interval
    p: float
    p_holm: float
    exact: bool
    d_z: float
    improved: float
    worsened: float
    seeds_better: int
    seeds_worse: int
    seeds_paired: int

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where the difference is significant after correction, else empty."""
        if self.p_holm >= ALPHA:
            return ""
        return "better" if self.difference > 0 else "worse"


@dataclass(frozen=True)
class Cell:
    """A row's metric in one candidate set.

    Attributes
    ----------
    mean : float
        Over seeds.
    deviation : float or None
        Standard deviation over seeds (``n - 1``); None with one seed.
    interval : tuple of float or None
        95% bootstrap interval over users; None where the metric is no mean over users.
    versus : Versus or None
        None for the baseline, where the baseline has no result, and where the metric is no mean over users.
    """

    row: str
    candidates: str
    metric: str
    n_seeds: int
    mean: float
    deviation: float | None
    interval: Interval | None
    versus: Versus | None


@dataclass(frozen=True)
class UserValues:
    """Metric values per user.

    Attributes
    ----------
    users, items : tuple of str
        Raw ids of the test users and of their targets, ``[U]``.
    columns : tuple of Column
    by_row : dict
        By row: float64 ``[U, C]``, averaged over seeds. Rows without results are missing.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    columns: tuple[Column, ...]
    by_row: dict[str, Floats]


def common_columns(runs: Sequence[FinishedRun]) -> list[Column]:
    """Candidate sets and metrics that all runs have, in the order of the first."""
    if not runs:
        return []
    results = [run.result["test"] for run in runs]
    return [
        (candidates, metric)
        for candidates, metrics in results[0].items()
        for metric in metrics
        if all(metric in other.get(candidates, ()) for other in results)
    ]


def rows_with_results(comparison: Comparison) -> list[str]:
    """Rows with at least one finished run, in the order of the table."""
    return [name for name in comparison.names if comparison.runs_of(name)]


def read_user_values(comparison: Comparison, context: str = "told") -> UserValues:
    """Per-user values of every row, from the ranks of its runs.

    Parameters
    ----------
    comparison : Comparison
        With at least one finished run.
    context : str
        See `FinishedRun.ranks`.

    Raises
    ------
    InputError
        If two runs differ in their test users, targets or numbers of candidates: they cannot be paired then.
    """
    columns = [column for column in common_columns(comparison.runs) if is_per_user(column[1])]
    reference = _ordered_ranks(comparison.runs[0], context)
    by_row = {}
    for name in rows_with_results(comparison):
        of_seeds = []
        for run in comparison.runs_of(name):
            ranks = _ordered_ranks(run, context)
            _check_pairs(reference, ranks, comparison.runs[0].folder, run.folder)
            values = [metric_of_ranks(ranks[f"rank_{candidates}"].to_numpy(), m) for candidates, m in columns]
            of_seeds.append(np.stack(values, axis=1) if values else np.empty((len(ranks), 0)))
        by_row[name] = np.mean(of_seeds, axis=0)
    return UserValues(tuple(reference.index), tuple(reference["item_id"]), tuple(columns), by_row)


def _ordered_ranks(run: FinishedRun, context: str) -> pd.DataFrame:
    try:
        return run.ranks(context).set_index("user_id").sort_index()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the ranks of {run.folder} cannot be read ({error}); train this run again") from error


def _check_pairs(ours: pd.DataFrame, theirs: pd.DataFrame, our_folder: Path, their_folder: Path) -> None:
    shared = [name for name in ours if name == "item_id" or (name.startswith("candidates_") and name in theirs)]
    if not ours.index.equals(theirs.index):
        what = "test users"
    else:
        differing = [name for name in shared if (ours[name] != theirs[name]).any()]
        if not differing:
            return
        what = "targets" if differing[0] == "item_id" else f"numbers of {differing[0].partition('_')[2]} candidates"
    raise InputError(
        f"{their_folder} and {our_folder} have different {what}, so their users cannot be compared in pairs; "
        "compare runs on the same dataset with the same eval_candidates and num_negatives"
    )


def seed_values(comparison: Comparison, name: str, column: Column) -> dict[int, float]:
    """A row's metric by seed, as in ``result.json``."""
    candidates, metric = column
    return {run.seed: float(run.result["test"][candidates][metric]) for run in comparison.runs_of(name)}


def cell_statistics(comparison: Comparison, values: UserValues) -> list[Cell]:
    """Statistics of every cell of the table, row by row.

    The tests of all rows but the baseline in all columns are one family for Holm's correction.
    """
    intervals, difference_intervals = _intervals(comparison.baseline, values)
    versus = _against_baseline(comparison, values, difference_intervals)
    cells = []
    for name in rows_with_results(comparison):
        for column in common_columns(comparison.runs):
            of_seeds = list(seed_values(comparison, name, column).values())
            cells.append(
                Cell(
                    row=name,
                    candidates=column[0],
                    metric=column[1],
                    n_seeds=len(of_seeds),
                    mean=statistics.fmean(of_seeds),
                    deviation=statistics.stdev(of_seeds) if len(of_seeds) > 1 else None,
                    interval=intervals.get((name, column)),
                    versus=versus.get((name, column)),
                )
            )
    return cells


def _intervals(
    baseline: str, values: UserValues
) -> tuple[dict[tuple[str, Column], Interval], dict[tuple[str, Column], Interval]]:
    """Bootstrap intervals of every cell, and of its difference from the baseline."""
    own, differences = {}, {}
    names = list(values.by_row)
    if not values.columns:
        return {}, {}
    stacked = np.concatenate([values.by_row[name] for name in names], axis=1)
    means = bootstrap_means(stacked).reshape(-1, len(names), len(values.columns))
    for place, name in enumerate(names):
        own[name] = percentile_interval(means[:, place])
        if baseline in names and name != baseline:
            differences[name] = percentile_interval(means[:, place] - means[:, names.index(baseline)])
    return _by_cell(own, values.columns), _by_cell(differences, values.columns)


def _by_cell(ends: dict[str, tuple[Floats, Floats]], columns: Sequence[Column]) -> dict[tuple[str, Column], Interval]:
    return {
        (name, column): (float(low[place]), float(high[place]))
        for name, (low, high) in ends.items()
        for place, column in enumerate(columns)
    }


def _against_baseline(
    comparison: Comparison, values: UserValues, intervals: dict[tuple[str, Column], Interval]
) -> dict[tuple[str, Column], Versus]:
    """Tests and effect sizes of every row but the baseline; empty where the baseline has no result."""
    if not intervals:
        return {}
    baseline = values.by_row[comparison.baseline]
    keys = list(intervals)
    differences = {name: own - baseline for name, own in values.by_row.items() if name != comparison.baseline}
    tested = randomisation_test(np.concatenate(list(differences.values()), axis=1))
    adjusted = holm(tested.p)
    versus = {}
    for place, key in enumerate(keys):
        name, column = key
        own = differences[name][:, values.columns.index(column)]
        effect = effect_size(own)
        ours, theirs = (seed_values(comparison, row, column) for row in (name, comparison.baseline))
        paired = ours.keys() & theirs.keys()
        versus[key] = Versus(
            difference=float(own.mean()),
            interval=intervals[key],
            p=float(tested.p[place]),
            p_holm=float(adjusted[place]),
            exact=bool(tested.exact[place]),
            d_z=effect.d_z,
            improved=effect.improved,
            worsened=effect.worsened,
            seeds_better=sum(ours[seed] > theirs[seed] for seed in paired),
            seeds_worse=sum(ours[seed] < theirs[seed] for seed in paired),
            seeds_paired=len(paired),
        )
    return versus


def significance_frame(comparison: Comparison, cells: Sequence[Cell]) -> pd.DataFrame:
    """Return the content of ``significance.csv``, a line per cell; numbers that do not exist are missing."""
    lines = []
    for cell in cells:
        low, high = cell.interval or (None, None)
        line = {
            "row": cell.row,
            "candidates": cell.candidates,
            "metric": cell.metric,
            "seeds": cell.n_seeds,
            "mean": cell.mean,
            "sd_over_seeds": cell.deviation,
            "ci_low": low,
            "ci_high": high,
            "baseline": comparison.baseline,
        }
        if cell.versus is not None:
            versus = cell.versus
            line |= {
                "difference": versus.difference,
                "difference_ci_low": versus.interval[0],
                "difference_ci_high": versus.interval[1],
                "p": versus.p,
                "p_holm": versus.p_holm,
                "test": "exact" if versus.exact else "monte carlo",
                "d_z": versus.d_z,
                "users_improved": versus.improved,
                "users_worsened": versus.worsened,
                "seeds_better": versus.seeds_better,
                "seeds_paired": versus.seeds_paired,
            }
        lines.append(line)
    frame = pd.DataFrame(lines)
    for name in ("seeds_better", "seeds_paired"):
        if name in frame:
            frame[name] = frame[name].astype("Int64")
    return frame
