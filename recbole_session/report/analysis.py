"""Everything a report says about a comparison, computed once and then written in several forms."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.config.values import plain
from recbole_session.data.dataset import SessionDataset
from recbole_session.errors import InputError
from recbole_session.report.sentences import describe_candidates, failures, legend, summary
from recbole_session.report.tables import in_column, metrics_columns
from recbole_session.report.targets import dataset_table, find_examples, user_facts
from recbole_session.report.tidy import empty_table, tidy_table
from recbole_session.report.user_values import Column, UserValues, read_user_values
from recbole_session.run.folder import CONFIG_FILE

# Neither the seed, which runs of a row differ in, nor where files lay on the machine of the runs.
_LEFT_OUT = {"seed", "checkpoint_dir", "data_path"}


@dataclass(frozen=True)
class Analysis:
    """A comparison and what was found."""

    comparison: Comparison
    settings: Mapping[str, Any]  # of the comparison, as its author gave them
    table: pd.DataFrame  # the tidy table, see `tidy`; these are parts of it:
    whole: pd.DataFrame  # lines of all targets, as tested
    slices: pd.DataFrame
    contexts: pd.DataFrame  # lines of the audit of the context
    columns: list[Column]  # of the metrics table
    candidates: dict[str, str]  # the candidate sets of these columns, and what they are
    principal: Column | None  # the column to look at more closely
    compared: str | None  # the best row by the principal column beside the baseline
    n_users: int  # test users
    dataset: list[tuple[str, str]]  # lines of the table of the dataset; empty where it cannot be loaded
    no_slices: str  # why there are no slices; else empty
    common: dict[str, Any]  # keys that all rows share
    differing: dict[str, dict[str, Any]]  # the other keys, by row
    examples: pd.DataFrame  # of `compared`, see `targets.find_examples`; empty where the dataset cannot be loaded
    failures: list[tuple[str, str]]  # see the functions in `sentences`, here and below
    legend: list[str]
    summary: list[str]


def analyse(comparison: Comparison, settings: Mapping[str, Any], data_path: Path | None = None) -> Analysis:
    """Compute everything.

    ``settings`` are shown in the report as they are. ``data_path`` is the folder of the dataset's folder, where it is
    not the one that the runs name.

    Raises
    ------
    InputError
        If runs cannot be compared in pairs, see `user_values.read_user_values`. A dataset that cannot be loaded is
        not an error: the report says so and leaves out the slices.
    """
    values = read_user_values(comparison) if comparison.runs else None
    n_users = len(values.weights) if values else 0
    dataset, facts, no_slices = _load_dataset(comparison, values, data_path)
    table = tidy_table(comparison, values, facts) if values else empty_table()
    whole = table[(table["slice"] == "") & (table["context"] == "")]
    columns, principal = metrics_columns(whole), _principal_column(whole)
    compared = _best_rival(comparison, whole, principal)
    common, differing = _row_settings(comparison)
    examples = pd.DataFrame()
    if dataset is not None and principal is not None and compared is not None:
        examples = find_examples(comparison, dataset, compared, principal)
    return Analysis(
        comparison=comparison,
        settings=settings,
        table=table,
        whole=whole,
        slices=table[table["slice"] != ""],
        contexts=table[table["context"] != ""],
        columns=columns,
        candidates={name: describe_candidates(name, common.get("num_negatives", "?")) for name, _ in columns},
        principal=principal,
        compared=compared,
        n_users=n_users,
        dataset=[] if dataset is None else dataset_table(dataset),  # the length of a SessionDataset says nothing
        no_slices=no_slices,
        common=common,
        differing=differing,
        examples=examples,
        failures=failures(comparison),
        legend=legend(comparison, whole),
        summary=summary(comparison, whole, principal, n_users),
    )


def _load_dataset(
    comparison: Comparison, values: UserValues | None, data_path: Path | None
) -> tuple[SessionDataset | None, pd.DataFrame | None, str]:
    """Dataset of the runs, the facts of its users, and why there are no slices."""
    if values is None:
        return None, None, "no run has a result"
    try:
        dataset = comparison.runs[0].dataset(data_path)
        facts = user_facts(dataset)
        if tuple(facts.index) != values.users or tuple(facts["item_id"]) != values.items:
            raise InputError(
                "the dataset has changed since the runs were trained: it has other test users or other targets"
            )
    except InputError as error:
        return None, None, str(error)
    return dataset, facts, ""


def _principal_column(whole: pd.DataFrame) -> Column | None:
    """Return the last metric among all items, else the last of all.

    Metrics among all items come first because those among sampled ones can order models differently (Krichene
    & Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020).
    """
    columns = metrics_columns(whole[whole["ci_low"].notna()])
    return max(reversed(columns), key=lambda column: column[0] == "all", default=None)


def _best_rival(comparison: Comparison, whole: pd.DataFrame, principal: Column | None) -> str | None:
    if principal is None or not comparison.runs_of(comparison.baseline):
        return None
    lines = in_column(whole[whole["row"] != comparison.baseline], principal)
    return str(lines.loc[lines["mean"].idxmax(), "row"]) if len(lines) else None


def _row_settings(comparison: Comparison) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Keys with the same value in every row, and by row the others, as far as they can matter to others.

    Rows without a result do not count, nor do those whose ``config.yaml`` is gone.
    """
    firsts = [run for name in comparison.names for run in comparison.runs_of(name)[:1]]
    rows = {
        run.name: {key: value for key, value in run.config.items() if key not in _LEFT_OUT}
        for run in firsts
        if (run.folder / CONFIG_FILE).is_file()
    }
    first, *others = rows.values() or [{}]
    common = {key: value for key, value in first.items() if all(other.get(key, ...) == value for other in others)}
    differing = {
        name: {key: value for key, value in sorted(values.items()) if key not in common}
        for name, values in rows.items()
    }
    return plain(common), plain(differing)
