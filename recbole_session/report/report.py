"""`write_report`: everything that is known of a comparison, as files in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.files import replacing
from recbole_session.report.analysis import analyse
from recbole_session.report.cells import significance_frame
from recbole_session.report.html_report import html_report
from recbole_session.report.markdown_report import markdown_report
from recbole_session.report.table import costs_markdown, to_frame, to_latex, to_markdown


def write_report(
    comparison: Comparison, folder: Path, settings: Mapping[str, Any], data_path: Path | None = None
) -> list[Path]:
    """Write the tables and the reports of a comparison.

    Parameters
    ----------
    comparison : Comparison
        Rows without a finished run are told as such.
    folder : Path
        Made if it is missing. Gets ``table.md``, ``table.tex``, ``table.csv`` (the metrics), ``significance.csv``,
        ``slices.csv`` and ``context.csv`` (as far as there is something to say), ``costs.md``, ``costs.csv``,
        ``report.md`` and ``report.html``. All but the costs and the HTML, which tells them, depend on the runs' keys,
        metrics and ranks alone.
    settings : Mapping
        Of the comparison, told in the HTML as they are.
    data_path : Path, optional
        Folder of the dataset's folder, where it is not the one that the runs name.

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
    files = {
        "table.md": to_markdown(analysis.table),
        "table.tex": to_latex(analysis.table),
        "table.csv": _csv(to_frame(analysis.table, analysis.cells)),
        "significance.csv": _csv(significance_frame(comparison, analysis.cells)),
        "slices.csv": _csv(analysis.slices),
        "context.csv": _csv(analysis.contexts),
        "costs.md": costs_markdown(analysis.costs),
        "costs.csv": _csv(analysis.costs),
        "report.md": markdown_report(analysis),
        "report.html": html_report(analysis),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in files.items():
        if text is None:
            (folder / name).unlink(missing_ok=True)  # of an earlier report, and no longer true
            continue
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
        written.append(folder / name)
    return written


def _csv(frame: pd.DataFrame | None) -> str | None:
    """Six decimals: what comes after them may differ between machines."""
    if frame is None or frame.empty:
        return None
    return frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")
