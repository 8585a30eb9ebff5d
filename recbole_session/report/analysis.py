"""Everything a report says about a comparison, computed once and then written in several forms."""

from pathlib import Path
from typing import Any

import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.config.values import plain
from recbole_session.data.dataset import SessionDataset
from recbole_session.errors import InputError
from recbole_session.report.headings import column_title
from recbole_session.report.sentences import describe_candidates, failures, legend, summary
from recbole_session.report.targets import dataset_table, find_examples, user_facts
from recbole_session.report.tidy import columns_of, costs_frame, empty_table, in_column, tidy_table
from recbole_session.report.user_values import Column, UserValues, read_user_values
from recbole_session.run.folder import CONFIG_FILE

# Neither the seed, which runs of a row differ in, nor where files lay on the machine of the runs.
_LEFT_OUT = {"seed", "checkpoint_dir", "data_path"}


class Analysis:
    """A comparison and what was found.

    ``data_path`` is the folder of the dataset's folder, where it is not the one that the runs name. Runs that cannot be
    compared in pairs are an `InputError`, see `user_values.read_user_values`. A dataset that cannot be loaded is not:
    the report says so and has no slices then.
    """

    def __init__(self, comparison: Comparison, data_path: Path | None = None) -> None:
        values = read_user_values(comparison) if comparison.runs else None
        dataset, facts, no_slices = _load_dataset(comparison, values, data_path)
        self.comparison = comparison
        self.n_users = len(values.weights) if values else 0  # test users
        self.no_slices = no_slices  # why there are none; else empty
        # Lines of its table; none where it cannot be loaded: the length of a SessionDataset says nothing.
        self.dataset = [] if dataset is None else dataset_table(dataset)
        self.table = table = tidy_table(comparison, values, facts) if values else empty_table()
        self.whole = whole = table[(table["slice"] == "") & (table["context"] == "")]  # all targets, as tested
        self.slices = table[table["slice"] != ""]
        self.contexts = table[table["context"] != ""]  # of the audit of the context
        self.costs = costs_frame(comparison)
        self.columns = columns_of(whole)  # of the metrics table
        self.principal = _principal_column(whole)  # the column to look at more closely
        self.principal_title = column_title(*self.principal) if self.principal else ""
        self.compared = _best_rival(comparison.baseline, whole, self.principal)  # the best row there but the baseline
        self.common, self.differing = _row_settings(comparison)
        self.examples = pd.DataFrame()  # of `compared`; none where the dataset cannot be loaded
        if dataset is not None and self.principal is not None and self.compared is not None:
            self.examples = find_examples(comparison, dataset, self.compared, self.principal)
        n_negatives = self.common.get("num_negatives", "?")
        self.candidates = {name: describe_candidates(name, n_negatives) for name, _ in self.columns}
        self.failures = failures(comparison)
        self.legend = legend(comparison, whole)
        self.summary = summary(comparison, whole, self.principal, self.n_users)


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
            raise InputError("the dataset has changed since the runs were trained: it has other test users or targets")
    except InputError as error:
        return None, None, str(error)
    return dataset, facts, ""


def _principal_column(whole: pd.DataFrame) -> Column | None:
    """Return the last metric among all items, else the last of all.

    Metrics among all items come first because those among sampled ones can order models differently (Krichene
    & Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020).
    """
    columns = columns_of(whole[whole["ci_low"].notna()])
    return max(reversed(columns), key=lambda column: column[0] == "all", default=None)


def _best_rival(baseline: str, whole: pd.DataFrame, principal: Column | None) -> str | None:
    lines = in_column(whole[whole["row"] != baseline], principal)
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
