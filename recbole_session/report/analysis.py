"""All that a report says about a comparison, computed once and then written in several forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_session.compare.row_settings import row_settings, split_settings
from recbole_session.compare.runs import Comparison
from recbole_session.errors import InputError
from recbole_session.report.cells import Cell, Versus, cell_statistics
from recbole_session.report.context_gain import context_frame
from recbole_session.report.facts import dataset_table, user_facts
from recbole_session.report.slices import slices_frame
from recbole_session.report.table import MISSING, Table, between, build_table, costs_frame, metric_title, signed
from recbole_session.report.user_values import Column, UserValues, read_user_values


@dataclass(frozen=True)
class Analysis:
    """A comparison and what was found.

    Attributes
    ----------
    settings : Mapping
        Of the comparison, as its author gave them.
    per_user : UserValues or None
        None where no run has a result.
    dataset : list of (str, str)
        Lines of the table of the dataset; empty where it cannot be loaded.
    slices, contexts : DataFrame or None
        See `slices.slices_frame` and `context_gain.context_frame`.
    no_slices : str
        Why there are no slices; else empty.
    common, differing : dict
        Keys that all rows share, and by row the others.
    """

    comparison: Comparison
    settings: Mapping[str, Any]
    per_user: UserValues | None
    cells: list[Cell]
    table: Table
    costs: pd.DataFrame
    dataset: list[tuple[str, str]]
    slices: pd.DataFrame | None
    no_slices: str
    contexts: pd.DataFrame | None
    common: dict[str, Any]
    differing: dict[str, dict[str, Any]]

    @property
    def principal(self) -> Column | None:
        """The column that is looked at more closely: the last metric among all items, else the last of all.

        Metrics among all items come first because those among sampled ones can order models differently (Krichene
        & Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020).
        """
        columns = list(self.per_user.columns) if self.per_user else []
        among_all = [column for column in columns if column[0] == "all"]
        candidates = among_all or columns
        return candidates[-1] if candidates else None

    def cells_of(self, column: Column) -> list[Cell]:
        """Cells of one column, in the order of the rows."""
        return [cell for cell in self.cells if (cell.candidates, cell.metric) == column]


def analyse(comparison: Comparison, settings: Mapping[str, Any], data_path: Path | None = None) -> Analysis:
    """Compute everything.

    Parameters
    ----------
    comparison : Comparison
    settings : Mapping
        Told in the report as they are.
    data_path : Path, optional
        Folder of the dataset's folder, where it is not the one that the runs name.

    Raises
    ------
    InputError
        If runs cannot be compared in pairs, see `user_values.read_user_values`. A dataset that cannot be loaded is no
        error: the report says so and goes without slices.
    """
    values = read_user_values(comparison) if comparison.runs else None
    cells = cell_statistics(comparison, values) if values else []
    dataset, slices, no_slices = _dataset_parts(comparison, values, data_path)
    common, differing = split_settings(row_settings(comparison))
    return Analysis(
        comparison=comparison,
        settings=settings,
        per_user=values,
        cells=cells,
        table=build_table(comparison, cells),
        costs=costs_frame(comparison),
        dataset=dataset,
        slices=slices,
        no_slices=no_slices,
        contexts=context_frame(comparison),
        common=common,
        differing=differing,
    )


def _dataset_parts(
    comparison: Comparison, values: UserValues | None, data_path: Path | None
) -> tuple[list[tuple[str, str]], pd.DataFrame | None, str]:
    """Lines of the dataset's table, slices, and why there are none."""
    if values is None:
        return [], None, "no run has a result"
    try:
        dataset = comparison.runs[0].dataset(data_path)
        slices = slices_frame(values, user_facts(dataset), comparison.baseline)
    except InputError as error:
        return [], None, str(error)
    return dataset_table(dataset), slices, ""


def column_title(column: Column) -> str:
    """``NDCG@10 among all items``."""
    candidates, metric = column
    among = {"all": "all items", "random": "random items", "popular": "popular items"}
    return f"{metric_title(metric)} among {among.get(candidates, candidates)}"


def written_p(p: float | None) -> str:
    """A p-value for reading; a test that was not made has a dash."""
    if p is None:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def versus_texts(row: str, versus: Versus) -> list[str]:
    """A line of the table of differences: row, difference, interval, p-values, effect sizes, seeds, as texts."""
    return [
        row,
        signed(versus.difference),
        between(*versus.interval),
        written_p(versus.p),
        written_p(versus.p_holm),
        written_p(versus.p_methods_holm),
        signed(versus.d_z, 3),
        f"{versus.improved:.1%}",
        f"{versus.worsened:.1%}",
        f"{versus.seeds_better} of {versus.seeds_paired}",
    ]


def summary(analysis: Analysis) -> list[str]:
    """Findings in plain sentences."""
    comparison, values = analysis.comparison, analysis.per_user
    if values is None or analysis.principal is None:
        return ["No run has a result yet, so there is nothing to compare."]
    sentences = [_best_sentence(analysis, analysis.principal)]
    tested = [cell.versus for cell in analysis.cells if cell.versus]
    if not tested:
        return sentences
    better = sum(versus.verdict == "better" for versus in tested)
    worse = sum(versus.verdict == "worse" for versus in tested)
    sample = f"these {len(values.users):,} users"
    if any(versus.p_methods is not None for versus in tested):
        sample += " and these seeds"
    sentences.append(
        f"Of {len(tested)} differences from {comparison.baseline} in the table, {better} "
        f"{'is' if better == 1 else 'are'} significantly better and {worse} significantly worse; the other "
        f"{len(tested) - better - worse} cannot be told from chance with {sample}."
    )
    return sentences + _about_seeds(tested)


def _about_seeds(tested: list[Versus]) -> list[str]:
    """What the seeds say beside the marks, as far as there is something to say."""
    sentences = []
    unsure = sum(versus.models_differ and not versus.verdict for versus in tested)
    if unsure:
        sentences.append(
            f"{unsure} of these {'is' if unsure == 1 else 'are'} significant over users and not once the seeds are "
            "counted too: the trained models differ, but other trainings of the same methods might not."
        )
    split = sum(_seeds_disagree(versus) for versus in tested)
    if split:
        sentences.append(
            f"{split} of the significant differences {'does' if split == 1 else 'do'} not hold in every seed: trained "
            "again, the model may fare otherwise."
        )
    unknown = sum(versus.p_methods is None and bool(versus.verdict) for versus in tested)
    if unknown:
        sentences.append(
            f"{unknown} of the significant differences {'speaks' if unknown == 1 else 'speak'} of these trained models "
            "and not of the methods, because there is only one seed of the row or of the baseline."
        )
    return sentences


def _seeds_disagree(versus: Versus) -> bool:
    """Whether a significant difference has another sign in at least one seed."""
    agreeing = versus.seeds_better if versus.verdict == "better" else versus.seeds_worse
    return bool(versus.verdict) and agreeing < versus.seeds_paired


def _best_sentence(analysis: Analysis, column: Column) -> str:
    best = max(analysis.cells_of(column), key=lambda cell: cell.mean)
    sentence = f"By {column_title(column)}, {best.row} is best with {best.mean:.4f}"
    versus = best.versus
    if versus is None:
        return sentence + "."
    verdict = {
        "better": "significantly more",
        "worse": "significantly less",
        "": "not significantly different",
    }[versus.verdict]
    p = f"Holm-corrected p {_p_equals(versus.p_holm)} over users"
    if versus.p_methods_holm is not None:
        p += f", p {_p_equals(versus.p_methods_holm)} over users and seeds"
    return (
        f"{sentence}: {signed(versus.difference)} (95% interval {between(*versus.interval)}) against "
        f"{analysis.comparison.baseline}, {verdict} ({p}); "
        f"{versus.improved:.1%} of the users fare better and {versus.worsened:.1%} worse."
    )


def _p_equals(p: float) -> str:
    return written_p(p) if p < 0.001 else f"= {written_p(p)}"
