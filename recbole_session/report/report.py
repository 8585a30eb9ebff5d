"""`write_report`: everything that is known of a comparison, as files in one folder."""

from pathlib import Path

import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.files import write_text
from recbole_session.report import tables
from recbole_session.report.analysis import Analysis
from recbole_session.report.html_report import html_report
from recbole_session.report.markdown_report import markdown_report


def write_report(
    comparison: Comparison, folder: Path, data_path: Path | None = None, safe_csv: bool = False
) -> list[Path]:
    """Write the tables and the reports of a comparison to ``folder``, and return the files that were written.

    They are ``table.md``, ``table.tex``, ``table.csv`` (the metrics), ``significance.csv``, ``slices.csv`` and
    ``context.csv`` (lines of the tidy table, as far as there are any), ``examples.csv`` (if the dataset can be read),
    ``costs.md``, ``costs.csv``, ``report.md`` and ``report.html``. All but the costs and the HTML, which shows them,
    depend on the runs' keys, metrics and ranks alone. Rows without a finished run are reported as such.

    ``data_path`` is as in `Analysis`, which also says what `InputError` is raised; ``safe_csv`` is as in
    `tables.csv_text`.
    """
    analysis = Analysis(comparison, data_path)
    tests = analysis.whole.drop(columns=["fact", "slice", "context", "place", "kept"], errors="ignore")
    frames = {
        "table.csv": tables.metrics_frame(analysis),
        "significance.csv": tests.assign(baseline=comparison.baseline),
        "slices.csv": _without(analysis.slices, "context"),
        "context.csv": _without(analysis.contexts, "fact", "slice"),
        "costs.csv": analysis.costs,
        "examples.csv": analysis.examples,
    }
    files = {
        "table.md": tables.metrics_markdown(analysis),
        "table.tex": tables.metrics_latex(analysis),
        "costs.md": tables.costs_markdown(analysis.costs),
        "report.md": markdown_report(analysis),
        "report.html": html_report(analysis, folder),
        **{name: tables.csv_text(frame, safe_csv) if len(frame) else None for name, frame in frames.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if text is None:
            (folder / name).unlink(missing_ok=True)  # of an earlier report, and no longer true
        else:
            write_text(folder / name, text)
    return [folder / name for name, text in sorted(files.items()) if text is not None]


def _without(lines: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Leave out these columns, those of the tests, and those that no line has."""
    return lines.drop(columns=[*names, "verdict", "epochs", "place"]).dropna(axis="columns", how="all")
