"""What a comparison's table and report are made of: the statistics of each cell."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.report.significance import (
    Floats,
    bootstrap_means,
    effect_size,
    holm,
    percentile_interval,
    randomisation_test,
)
from recbole_session.report.training_noise import MethodTest, compare_methods
from recbole_session.report.user_values import Column, UserValues, common_columns, rows_with_results

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
        Of the paired randomisation test over users, as it is and after Holm's correction over the whole table: do
        these trained models differ?
    exact : bool
        True where every sign flip was enumerated.
    d_z, improved, worsened : float
        See `significance.Effect`.
    seeds_better, seeds_worse, seeds_paired : int
        In how many of the seeds that both have, the row's metric is better, and worse, than the baseline's.
    p_methods, p_methods_holm : float or None
        Of `training_noise.compare_methods`, likewise: would other trainings of the two differ too? None where the
        row or the baseline has one seed.
    error_of_users, error_of_seeds : float or None
        Standard errors of ``difference``, see `training_noise.MethodTest`; None as above.
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
    p_methods: float | None
    p_methods_holm: float | None
    error_of_users: float | None
    error_of_seeds: float | None

    @property
    def models_differ(self) -> bool:
        """Whether the test over users finds a difference, after correction; other seeds may not show it."""
        return self.p_holm < ALPHA

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where every test that could be made finds it after correction, else empty."""
        if not self.models_differ or (self.p_methods_holm is not None and self.p_methods_holm >= ALPHA):
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


def seed_values(comparison: Comparison, name: str, column: Column) -> dict[int, float]:
    """A row's metric by seed, as in ``result.json``."""
    candidates, metric = column
    return {run.seed: float(run.result["test"][candidates][metric]) for run in comparison.runs_of(name)}


def cell_statistics(comparison: Comparison, values: UserValues) -> list[Cell]:
    """Statistics of every cell of the table, row by row.

    The tests of all rows but the baseline in all columns are one family for Holm's correction, once those over
    users, once those that count the seeds too.
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
    stacked = np.concatenate([values.mean_of(name) for name in names], axis=1)
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
    keys = list(intervals)
    baseline = values.mean_of(comparison.baseline)
    others = list(dict.fromkeys(name for name, _ in keys))
    differences = np.concatenate([values.mean_of(name) - baseline for name in others], axis=1)  # [U, len(keys)]
    tested = randomisation_test(differences)
    adjusted = holm(tested.p)
    methods = [_method_test(values, name, comparison.baseline, column) for name, column in keys]
    # A test that cannot be made finds nothing, but the family keeps its size.
    methods_adjusted = holm(np.array([1.0 if test is None else test.p for test in methods]))
    versus = {}
    for place, (name, column) in enumerate(keys):
        effect, test = effect_size(differences[:, place]), methods[place]
        ours, theirs = (seed_values(comparison, row, column) for row in (name, comparison.baseline))
        paired = ours.keys() & theirs.keys()
        versus[name, column] = Versus(
            difference=float(differences[:, place].mean()),
            interval=intervals[name, column],
            p=float(tested.p[place]),
            p_holm=float(adjusted[place]),
            exact=bool(tested.exact[place]),
            d_z=effect.d_z,
            improved=effect.improved,
            worsened=effect.worsened,
            seeds_better=sum(ours[seed] > theirs[seed] for seed in paired),
            seeds_worse=sum(ours[seed] < theirs[seed] for seed in paired),
            seeds_paired=len(paired),
            p_methods=test and test.p,
            p_methods_holm=test and float(methods_adjusted[place]),
            error_of_users=test and test.error_of_users,
            error_of_seeds=test and test.error_of_seeds,
        )
    return versus


def _method_test(values: UserValues, name: str, baseline: str, column: Column) -> MethodTest | None:
    """Test that counts the error of the seeds; None where there are too few of them, or one user."""
    place = values.columns.index(column)
    ours, theirs = (values.by_row[row][:, :, place] for row in (name, baseline))
    if min(len(ours), len(theirs), len(values.users)) < 2:
        return None
    return compare_methods(ours, theirs)


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
                "p_methods": versus.p_methods,
                "p_methods_holm": versus.p_methods_holm,
                "error_of_users": versus.error_of_users,
                "error_of_seeds": versus.error_of_seeds,
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
