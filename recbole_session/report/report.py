"""`write_report`: everything that is known of a comparison, as files in one folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.files import replacing
from recbole_session.report import tables
from recbole_session.report.analysis import analyse
from recbole_session.report.html_report import html_report
from recbole_session.report.markdown_report import markdown_report


def write_report(
    comparison: Comparison,
    folder: Path,
    settings: Mapping[str, Any],
    data_path: Path | None = None,
    safe_csv: bool = False,
) -> list[Path]:
    """Write the tables and the reports of a comparison.

    Parameters
    ----------
    comparison : Comparison
        Rows without a finished run are reported as such.
    folder : Path
        Made if it is missing. Gets ``table.md``, ``table.tex``, ``table.csv`` (the metrics), ``significance.csv``,
        ``slices.csv`` and ``context.csv`` (lines of the tidy table, as far as there are any), ``examples.csv`` (if
        the dataset can be read), ``costs.md``, ``costs.csv``, ``report.md`` and ``report.html``. All but the costs
        and the HTML, which shows them, depend on the runs' keys, metrics and ranks alone.
    settings, data_path
        See `analysis.analyse`, which also says what `InputError` is raised.
    safe_csv : bool
        See `tables.csv_text`.

    Returns
    -------
    list of Path
        The files that were written.
    """
    analysis = analyse(comparison, settings, data_path)
    costs = tables.costs_frame(comparison)
    metrics = (comparison, analysis.whole, analysis.legend, analysis.failures)
    frames = {
        "table.csv": tables.metrics_frame(comparison, analysis.whole, analysis.failures),
        "significance.csv": analysis.whole.drop(
            columns=["fact", "slice", "context", "place", "kept"], errors="ignore"
        ).assign(baseline=comparison.baseline),
        "slices.csv": _without(analysis.slices, "context"),
        "context.csv": _without(analysis.contexts, "fact", "slice"),
        "costs.csv": costs,
        "examples.csv": analysis.examples,
    }
    files = {
        "table.md": tables.metrics_markdown(*metrics),
        "table.tex": tables.metrics_latex(*metrics),
        "costs.md": tables.costs_markdown(costs),
        "report.md": markdown_report(analysis),
        "report.html": html_report(analysis, costs, folder),
        **{name: tables.csv_text(frame, safe_csv) if len(frame) else None for name, frame in frames.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in sorted(files.items()):
        if text is None:
            (folder / name).unlink(missing_ok=True)  # of an earlier report, and no longer true
            continue
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
        written.append(folder / name)
    return written


def _without(lines: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Leave out these columns, those of the tests, and those that no line has."""
    return lines.drop(columns=[*names, "verdict", "epochs", "place"]).dropna(axis="columns", how="all")
