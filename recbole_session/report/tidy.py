"""The tidy table: one long data frame with all statistics of a comparison. Every view of the report reads it by name.

A line is a row of the comparison in one column (candidate set and metric), for all test targets or a slice of them:

============================ ==========================================================================================
column                       content
============================ ==========================================================================================
row, candidates, metric      what was measured
fact, slice                  the targets: one of ``targets.FACTS`` and a slice of it; both empty for all targets
context                      empty for the runs as tested; in the audit of the context, of the audited runs alone: what
                             they knew of the next interaction, one of ``CONTEXTS``
users, targets, seeds        how many; under leave one out every user has one target
mean, sd_over_seeds          of the metric; the deviation (``n - 1``) is missing with one seed
ci_low, ci_high              95% bootstrap interval of the mean over users
difference, ..._ci_low/high  mean difference from the baseline, and its 95% bootstrap interval
kept                         share of the told gain that is left in another context
p, p_holm, test              paired randomisation test over users, and Holm's correction over the whole table
p_methods, p_methods_holm    likewise of the test over users and seeds; missing with one seed of the row or the baseline
error_of_users/of_seeds      standard errors of the difference, see `significance.MethodTest`
d_z                          see `significance.standardised_means`
users_improved/_worsened     shares of users
seeds_better/_worse/_paired  of the seeds that both have
epochs                       ``5 to 9`` where ``train_time_limit`` let the seeds run different numbers; else empty
verdict                      ``better`` or ``worse`` where every test that could be made finds it; else empty
place                        1 for the best row of the column, 2 for the second best, as printed; else 0
============================ ==========================================================================================

What does not apply is missing. Tests are made for all targets, as tested. The sample is always the users.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_session.compare.runs import Comparison
from recbole_session.errors import InputError
from recbole_session.report import significance
from recbole_session.report.headings import DECIMALS
from recbole_session.report.significance import N_RESAMPLES
from recbole_session.report.targets import slice_users
from recbole_session.report.user_values import Column, UserValues, common_columns, read_user_values
from recbole_session.run.folder import AUDIT_FILES, CONTEXTS, ranks_file
from recbole_session.run.run import Run

CELL = ["row", "candidates", "metric"]
ALPHA = 0.05
LOWER_IS_BETTER = {"averagepopularity", "giniindex"}
FEWER_RESAMPLES = 2_000  # enough for the intervals of slices and contexts, of which there are many

Statistic = Callable[[UserValues, str], Mapping[str, NDArray[Any]]]


# ---- Statistics of rows against the baseline: by column name, an array [T] in the order of `UserValues.differences`.


def tests_over_users(values: UserValues, baseline: str) -> dict[str, NDArray[Any]]:
    """Whether these trained models differ."""
    tested = significance.randomisation_test(values.differences(baseline))
    return {
        "p": tested.p,
        "p_holm": significance.holm(tested.p),
        "test": np.where(tested.exact, "exact", "monte carlo"),
    }


def tests_over_seeds(values: UserValues, baseline: str) -> dict[str, NDArray[Any]]:
    """Whether other trainings of the two methods would differ too."""
    theirs, parts = values.per_user(baseline), []
    for row in values.others(baseline):
        ours, found = values.per_user(row), np.full((3, len(values.columns)), np.nan)
        if min(len(ours), len(theirs), len(values.weights)) >= 2:
            test = significance.compare_methods(ours, theirs)
            found[:] = test.p, test.error_of_users, test.error_of_seeds
        parts.append(found)
    p, of_users, of_seeds = np.concatenate(parts, axis=1)
    # A test that cannot be made finds nothing, but the family keeps its size.
    adjusted = np.where(np.isnan(p), np.nan, significance.holm(np.where(np.isnan(p), 1.0, p)))
    return {"p_methods": p, "p_methods_holm": adjusted, "error_of_users": of_users, "error_of_seeds": of_seeds}


def effect_sizes(values: UserValues, baseline: str) -> dict[str, NDArray[Any]]:
    """How large the difference is, and how many users see it."""
    differences = values.differences(baseline)
    return {
        "d_z": significance.standardised_means(differences),
        "users_improved": (differences > 0).mean(axis=0),
        "users_worsened": (differences < 0).mean(axis=0),
    }


STATISTICS: list[Statistic] = [tests_over_users, tests_over_seeds, effect_sizes]


# ---- The table

# The columns of statistics in the order of the files, present even where there is no baseline.
_COLUMNS = [
    "seeds", "mean", "sd_over_seeds", "ci_low", "ci_high", "difference", "difference_ci_low", "difference_ci_high",
    "p", "p_holm", "test", "p_methods", "p_methods_holm", "error_of_users", "error_of_seeds", "d_z",
    "users_improved", "users_worsened", "seeds_better", "seeds_worse", "seeds_paired",
]  # fmt: skip


def tidy_table(comparison: Comparison, values: UserValues, facts: pd.DataFrame | None = None) -> pd.DataFrame:
    """Compute the table; the head of this file lists its columns.

    The comparison has at least one finished run, and ``values`` are its own, as tested. Without the facts of
    `targets.user_facts` there are no slices. An audit of the context with other users or targets than the test's is an
    `InputError`.
    """
    parts = [_whole(comparison, values).assign(fact="", slice="", context="")]
    for fact, slices in (slice_users(facts) if facts is not None else {}).items():
        for name in slices.cat.categories:
            lines = _means(values.subset((slices == name).to_numpy()), comparison.baseline, FEWER_RESAMPLES)
            parts.append(lines.assign(fact=fact, slice=name))
    table = pd.concat([*parts, *_contexts(comparison)], ignore_index=True)
    table = table.reindex(columns=list(dict.fromkeys([*CELL, "fact", "slice", "context", "users", "targets", *table])))
    empty = dict.fromkeys(("fact", "slice", "context", "verdict", "epochs"), "") | {"place": 0}
    empty |= {"users": len(values.weights), "targets": len(values.users)}
    return table.fillna(empty).astype({"place": int, "users": int, "targets": int, "seeds": "Int64"})


def _whole(comparison: Comparison, values: UserValues) -> pd.DataFrame:
    """Lines of all users as tested, with every statistic."""
    baseline, results = comparison.baseline, _results(comparison)
    lines = results.groupby(CELL, sort=False)["value"].agg(seeds="count", mean="mean", sd_over_seeds="std")
    lines = lines.join(_means(values, baseline, N_RESAMPLES).set_index(CELL).drop(columns=["mean", "users", "targets"]))
    others = values.others(baseline)
    if others and values.columns:
        found = pd.DataFrame(index=_cells(others, values))
        for statistic in STATISTICS:
            found = found.assign(**statistic(values, baseline))
        lines = lines.join(found.join(_seeds_ahead(results, baseline)))
    lines = lines.reindex(columns=list(dict.fromkeys([*_COLUMNS, *lines])))
    lines = lines.astype({name: "Int64" for name in ("seeds_better", "seeds_worse", "seeds_paired")})
    found_by_all = (lines["p_holm"] < ALPHA) & ~(lines["p_methods_holm"] >= ALPHA)
    lines["verdict"] = np.select([found_by_all & (lines["difference"] > 0), found_by_all], ["better", "worse"], "")
    epochs = {name: _limited_epochs(comparison.runs_of(name)) for name in comparison.names}
    lines["epochs"] = lines.index.get_level_values("row").map(epochs)
    return lines.assign(place=_places(lines["mean"]) if len(values.by_row) > 1 else 0).reset_index()


def _results(comparison: Comparison) -> pd.DataFrame:
    """Metrics of ``result.json``, long: ``row seed candidates metric value``."""
    columns = common_columns(comparison.runs)
    lines = [
        (name, run.seed, candidates, metric, float(run.result["test"][candidates][metric]))
        for name in comparison.names
        for run in comparison.runs_of(name)
        for candidates, metric in columns
    ]
    return pd.DataFrame(lines, columns=["row", "seed", "candidates", "metric", "value"])


def _limited_epochs(runs: Sequence[Run]) -> str:
    """How many epochs the runs of a row took, where ``train_time_limit`` made them differ; else empty."""
    epochs = sorted({run.result["epochs_run"] for run in runs})
    is_limited = len(epochs) > 1 and any(run.config.get("train_time_limit") for run in runs)
    return f"{epochs[0]} to {epochs[-1]}" if is_limited else ""


def _cells(rows: Iterable[str], values: UserValues) -> pd.MultiIndex:
    cells = [(row, *column) for row in rows for column in values.columns]
    return pd.MultiIndex.from_frame(pd.DataFrame(cells, columns=CELL))


def _means(values: UserValues, baseline: str, n_resamples: int) -> pd.DataFrame:
    """Means of every row, and differences from the baseline, with intervals where there are two users or more."""
    rows = list(values.by_row)
    means = np.concatenate([values.mean_of(row) for row in rows], axis=1)  # [U, rows * C]
    both = np.concatenate((means, values.differences(baseline)), axis=1)  # resampled alike
    content = pd.DataFrame({"mean": both.mean(axis=0), "ci_low": np.nan, "ci_high": np.nan})
    if len(both) > 1:
        # A resample of users has its own number of targets to divide by.
        resampled = significance.bootstrap_means(np.column_stack((both, values.weights)), n_resamples)
        content["ci_low"], content["ci_high"] = significance.percentile_interval(resampled[:, :-1] / resampled[:, -1:])
    own, difference = content[: means.shape[1]], content[means.shape[1] :]
    own = own.set_index(_cells(rows, values))
    difference = difference.set_index(_cells(values.others(baseline), values))
    difference.columns = pd.Index(["difference", "difference_ci_low", "difference_ci_high"])
    return own.join(difference).assign(users=len(both), targets=len(values.users)).reset_index()


def _seeds_ahead(results: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """In how many of the seeds that both have, a row's metric is above and below the baseline's."""
    theirs = results[results["row"] == baseline].drop(columns="row")
    pairs = results.merge(theirs, on=["seed", "candidates", "metric"], suffixes=("", "_of_baseline"))
    ahead = {
        "seeds_better": pairs["value"] > pairs["value_of_baseline"],
        "seeds_worse": pairs["value"] < pairs["value_of_baseline"],
        "seeds_paired": True,
    }
    return pairs.assign(**ahead).groupby(CELL)[list(ahead)].sum()


def _places(means: pd.Series) -> pd.Series:
    """1 for the best of a column, 2 for the second best, as printed; 0 for the others."""
    names = means.index.get_level_values("metric").map(lambda metric: metric.partition("@")[0])
    printed = means.map(lambda mean: round(mean, DECIMALS)) * np.where(names.isin(LOWER_IS_BETTER), 1, -1)
    places = printed.groupby(level=["candidates", "metric"]).rank(method="dense")
    return places.where(places <= 2, 0).astype(int)


def _contexts(comparison: Comparison) -> list[pd.DataFrame]:
    """Lines of the audited runs in every context."""
    runs = tuple(run for run in comparison.runs if all((run.folder / file).is_file() for file in AUDIT_FILES))
    if not runs:
        return []
    audited = replace(comparison, runs=runs)
    values = {context: read_user_values(audited, context) for context in CONTEXTS}
    told = values["told"]
    for context in CONTEXTS:
        if (values[context].users, values[context].items) != (told.users, told.items):
            raise InputError(f"{ranks_file(context)} has other users or targets than ranks.csv; audit the runs again")
    parts = {context: _means(values[context], comparison.baseline, FEWER_RESAMPLES) for context in CONTEXTS}
    # A share of a gain that may be zero means nothing.
    gain = parts["told"]["difference"].where(parts["told"]["difference_ci_low"] > 0)
    for context in CONTEXTS[1:]:
        parts[context]["kept"] = parts[context]["difference"] / gain
    return [lines.assign(context=context) for context, lines in parts.items()]


def costs_frame(comparison: Comparison) -> pd.DataFrame:
    """What each row took, a mean over its seeds: seconds, epochs, and where it ran."""
    names = ["seed", "num_parameters", "train_seconds", "eval_seconds", "epochs_run", "best_epoch", "environment"]
    results = pd.DataFrame([run.result for run in comparison.runs], columns=names)
    costs = results.groupby(pd.Index([run.name for run in comparison.runs], dtype=object)).agg(
        seeds=("seed", "size"),
        parameters=("num_parameters", "first"),
        training_seconds=("train_seconds", "mean"),
        evaluation_seconds=("eval_seconds", "mean"),
        epochs_run=("epochs_run", "mean"),
        best_epoch=("best_epoch", lambda epochs: epochs.mean() + 1),
        device=("environment", lambda of: "; ".join(sorted({f"{e['device']}, threads: {e['threads']}" for e in of}))),
    )
    costs = costs.reindex(pd.Index(comparison.names, name="row")).fillna({"seeds": 0})
    return costs.astype({"seeds": int, "parameters": "Int64"}).reset_index()


def wide(lines: pd.DataFrame, across: str | list[str], values: str) -> pd.DataFrame:
    """One column of the tidy table, rows down and ``across`` across, both in order of appearance."""
    table = lines.pivot(index="row", columns=across, values=values)  # noqa: PD010  pivot_table drops what is missing
    order = lines[across].drop_duplicates()
    return table.loc[lines["row"].unique(), order if isinstance(order, pd.Series) else pd.MultiIndex.from_frame(order)]


def columns_of(lines: pd.DataFrame) -> list[Column]:
    """Candidate sets and metrics of some lines, in order of appearance."""
    return list(dict.fromkeys(zip(lines["candidates"], lines["metric"], strict=True)))


def in_column(lines: pd.DataFrame, column: Column | None) -> pd.DataFrame:
    """Lines of one candidate set and metric; without one, none."""
    candidates, metric = column or (None, None)
    return lines[(lines["candidates"] == candidates) & (lines["metric"] == metric)]


def empty_table() -> pd.DataFrame:
    """Return the table of a comparison without any result."""
    sizes = ["fact", "slice", "context", "users", "targets"]
    return pd.DataFrame(columns=[*CELL, *sizes, *_COLUMNS, "verdict", "epochs", "place"])
