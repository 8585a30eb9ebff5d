"""Everything a report says about a comparison, computed once and then written in several forms."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.config.values import plain
from recbole_session.data.dataset import SessionDataset
from recbole_session.errors import InputError
from recbole_session.report.examples import find_examples
from recbole_session.report.sentences import failures, legend, summary
from recbole_session.report.slices import dataset_table, user_facts
from recbole_session.report.tidy import empty_table, tidy_table
from recbole_session.report.user_values import Column, UserValues, read_user_values
from recbole_session.run.folder import CONFIG_FILE

# Neither the seed, which runs of a row differ in, nor where files lay on the machine of the runs.
_LEFT_OUT = {"seed", "checkpoint_dir", "data_path"}


@dataclass(frozen=True)
class Analysis:
    """A comparison and what was found.

    Attributes
    ----------
    settings : Mapping
        Of the comparison, as its author gave them.
    table : DataFrame
        The tidy table, see `tidy`.
    n_users : int
        Test users.
    dataset : list of (str, str)
        Lines of the table of the dataset; empty where it cannot be loaded.
    no_slices : str
        Why there are no slices; else empty.
    common, differing : dict
        Keys that all rows share, and by row the others.
    examples : DataFrame
        See `examples.find_examples`, of the row `compared` with the baseline; empty where the dataset cannot be loaded.
    """

    comparison: Comparison
    settings: Mapping[str, Any]
    table: pd.DataFrame
    n_users: int
    dataset: list[tuple[str, str]]
    no_slices: str
    common: dict[str, Any]
    differing: dict[str, dict[str, Any]]
    examples: pd.DataFrame

    @cached_property
    def whole(self) -> pd.DataFrame:
        """Lines of all targets, as tested."""
        return self.table[(self.table["slice"] == "") & (self.table["context"] == "")]

    @cached_property
    def slices(self) -> pd.DataFrame:
        """Lines of the slices."""
        return self.table[self.table["slice"] != ""]

    @cached_property
    def contexts(self) -> pd.DataFrame:
        """Lines of the audit of the context."""
        return self.table[self.table["context"] != ""]

    @property
    def principal(self) -> Column | None:
        """The column to look at more closely: the last metric among all items, else the last of all.

        Metrics among all items come first because those among sampled ones can order models differently (Krichene
        & Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020).
        """
        cells = self.whole[self.whole["ci_low"].notna()]
        columns = list(zip(cells["candidates"], cells["metric"], strict=True))
        return next(iter([c for c in columns if c[0] == "all"][-1:] or columns[-1:]), None)

    @property
    def compared(self) -> str | None:
        """The best row by the principal column beside the baseline."""
        column = self.principal
        lines = self.whole[self.whole["row"] != self.comparison.baseline]
        if column is None or not self.comparison.runs_of(self.comparison.baseline) or not len(lines):
            return None
        lines = lines[(lines["candidates"] == column[0]) & (lines["metric"] == column[1])]
        return str(lines.loc[lines["mean"].idxmax(), "row"])

    @property
    def failures(self) -> list[tuple[str, str]]:
        """See `sentences.failures`."""
        return failures(self.comparison)

    @property
    def legend(self) -> list[str]:
        """See `sentences.legend`."""
        return legend(self.comparison, self.whole)

    @property
    def summary(self) -> list[str]:
        """See `sentences.summary`."""
        return summary(self.comparison, self.whole, self.principal, self.n_users)


def analyse(comparison: Comparison, settings: Mapping[str, Any], data_path: Path | None = None) -> Analysis:
    """Compute everything.

    Parameters
    ----------
    comparison : Comparison
    settings : Mapping
        Shown in the report as they are.
    data_path : Path, optional
        Folder of the dataset's folder, where it is not the one that the runs name.

    Raises
    ------
    InputError
        If runs cannot be compared in pairs, see `user_values.read_user_values`. A dataset that cannot be loaded is
        not an error: the report says so and leaves out the slices.
    """
    values = read_user_values(comparison) if comparison.runs else None
    dataset, facts, no_slices = _load_dataset(comparison, values, data_path)
    common, differing = _split_settings(_row_settings(comparison))
    analysis = Analysis(
        comparison=comparison,
        settings=settings,
        table=tidy_table(comparison, values, facts) if values else empty_table(),
        n_users=len(values.weights) if values else 0,
        dataset=[] if dataset is None else dataset_table(dataset),  # the length of a SessionDataset says nothing
        no_slices=no_slices,
        common=common,
        differing=differing,
        examples=pd.DataFrame(),
    )
    if dataset is None or analysis.principal is None or analysis.compared is None:
        return analysis
    return replace(analysis, examples=find_examples(comparison, dataset, analysis.compared, analysis.principal))


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


def _row_settings(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Keys of every row that has a result, as far as they can matter to others; empty where ``config.yaml`` is gone."""
    settings = {}
    for name in comparison.names:
        for run in comparison.runs_of(name)[:1]:
            values = run.config if (run.folder / CONFIG_FILE).is_file() else {}
            settings[name] = {key: value for key, value in values.items() if key not in _LEFT_OUT}
    return settings


def _split_settings(rows: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Keys with the same value in every row, and by row the others."""
    known = [values for values in rows.values() if values]
    if not known:
        return {}, {}
    common = {
        key: value for key, value in known[0].items() if all(key in other and other[key] == value for other in known)
    }
    others = {
        name: {key: value for key, value in sorted(values.items()) if key not in common}
        for name, values in rows.items()
        if values
    }
    return plain(common), plain(others)
