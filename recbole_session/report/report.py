"""`write_report`: everything that is known of a comparison, as files in one folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.files import replacing
from recbole_session.report.analysis import analyse
from recbole_session.report.html_report import html_report
from recbole_session.report.markdown_report import markdown_report
from recbole_session.report.tables import (
    costs_frame,
    costs_markdown,
    csv_text,
    metrics_frame,
    metrics_latex,
    metrics_markdown,
)


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
        the dataset can be read), ``costs.md``,
        ``costs.csv``, ``report.md`` and ``report.html``. All but the costs and the HTML, which shows them, depend on
        the runs' keys, metrics and ranks alone.
    settings : Mapping
        Of the comparison, shown in the HTML as they are.
    data_path : Path, optional
        Folder of the dataset's folder, where it is not the one that the runs name.
    safe_csv : bool
        See `tables.csv_text`.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    InputError
        If runs cannot be compared in pairs, see `user_values.read_user_values`.
    """
    analysis = analyse(comparison, settings, data_path)
    costs = costs_frame(comparison)
    metrics = (comparison, analysis.whole, analysis.legend, analysis.failures)
    frames = {
        "table.csv": metrics_frame(comparison, analysis.whole, analysis.failures),
        "significance.csv": analysis.whole.drop(
            columns=["fact", "slice", "context", "place", "kept"], errors="ignore"
        ).assign(baseline=comparison.baseline),
        "slices.csv": _present(analysis.slices.drop(columns=["context", "verdict", "epochs", "place"])),
        "context.csv": _present(analysis.contexts.drop(columns=["fact", "slice", "verdict", "epochs", "place"])),
        "costs.csv": costs,
        "examples.csv": analysis.examples,
    }
    files = {
        "table.md": metrics_markdown(*metrics),
        "table.tex": metrics_latex(*metrics),
        "costs.md": costs_markdown(costs),
        "report.md": markdown_report(analysis),
        "report.html": html_report(analysis, costs, folder),
        **{name: csv_text(frame, safe_csv) if len(frame) else None for name, frame in frames.items()},
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


def _present(lines: pd.DataFrame) -> pd.DataFrame:
    """Leave out columns that no line has."""
    return lines.dropna(axis="columns", how="all")
