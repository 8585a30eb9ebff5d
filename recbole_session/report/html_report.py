"""``report.html``: one file, without network and without scripts, for people who do not read the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from recbole_session.compare.row_settings import one_line
from recbole_session.compare.runs import Comparison
from recbole_session.report.analysis import Analysis, column_title, summary, versus_texts
from recbole_session.report.cells import ALPHA, Cell
from recbole_session.report.curves import validation_curve
from recbole_session.report.legend import BETTER, WORSE
from recbole_session.report.markdown_report import describe_candidates, in_column
from recbole_session.report.plots import (
    BASELINE,
    COLOURS,
    Bar,
    Level,
    draw_bars,
    draw_curves,
    draw_differences,
    draw_sweep,
    matplotlib_is_there,
    row_style,
)
from recbole_session.report.significance import N_RESAMPLES
from recbole_session.report.slices import FACTS
from recbole_session.report.table import MISSING, between, costs_cells, metric_title, signed
from recbole_session.report.user_values import Column
from recbole_session.run.folder import CONTEXTS

_TEMPLATE = Path(__file__).with_name("report.html.jinja")
_MARKS = {"better": BETTER, "worse": WORSE, "": ""}


def html_report(analysis: Analysis) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    has_pictures = matplotlib_is_there()
    comparison = analysis.comparison
    principal = analysis.principal
    return template.render(
        comparison=comparison,
        seeds=sorted({run.seed for run in comparison.runs}),
        n_users=len(analysis.per_user.users) if analysis.per_user else 0,
        summary=summary(analysis),
        candidates=[
            (name, describe_candidates(name, analysis.common.get("num_negatives", "?")))
            for name in dict.fromkeys(name for name, _ in analysis.table.columns)
        ],
        dataset=analysis.dataset,
        table=analysis.table,
        spans=_spans(analysis.table.columns),
        marks=_MARKS,
        metric_title=metric_title,
        has_pictures=has_pictures,
        differences=_difference_pictures(analysis) if has_pictures else [],
        bars=_bar_pictures(analysis) if has_pictures else [],
        sweep=_sweep_pictures(analysis) if has_pictures else [],
        sweep_levels=[(name, *style) for name, style in _level_styles(comparison).items()],
        curves=_curves(analysis) if has_pictures else None,
        details=_details(analysis),
        principal=column_title(principal) if principal else "",
        slices=_slice_tables(analysis),
        no_slices=analysis.no_slices,
        contexts=_context_rows(analysis),
        costs=costs_cells(analysis.costs),
        common=_yaml(analysis.common),
        differing={
            name: [(key, one_line(value)) for key, value in values.items()]
            for name, values in analysis.differing.items()
        },
        settings=_yaml(dict(analysis.settings)),
        environments=_environments(analysis),
        alpha=ALPHA,
        n_resamples=N_RESAMPLES,
    )


def _yaml(values: Any) -> str:
    return yaml.safe_dump(values, sort_keys=True, allow_unicode=True, width=100) if values else ""


def _spans(columns: tuple[Column, ...]) -> list[tuple[str, int]]:
    """Candidate sets with the number of their columns, which lie side by side."""
    names = [name for name, _ in columns]
    return [(name, names.count(name)) for name in dict.fromkeys(names)]


# ---- pictures


def _picture(drawn: str) -> Markup:
    return Markup(drawn)  # matplotlib escapes what it is given


def _bar(analysis: Analysis, cell: Cell) -> Bar:
    low, high = cell.interval or (cell.mean, cell.mean)
    verdict = cell.versus.verdict if cell.versus else ""
    is_baseline = cell.row == analysis.comparison.baseline
    text = f"{cell.mean:.4f}{_MARKS[verdict]}"
    return Bar(cell.row, cell.mean, low, high, text, is_baseline, verdict)


def _bar_pictures(analysis: Analysis) -> list[tuple[str, Markup]]:
    """A picture per column: every row's value with its interval."""
    pictures = []
    for number, column in enumerate(analysis.table.columns):
        bars = [_bar(analysis, cell) for cell in analysis.cells_of(column) if cell.interval]
        if bars:
            title = column_title(column)
            pictures.append((title, _picture(draw_bars(f"bars{number}", title, bars))))
    return pictures


def _difference_pictures(analysis: Analysis) -> list[tuple[str, Markup]]:
    """A picture per column: every row's difference from the baseline."""
    pictures = []
    for number, column in enumerate(analysis.table.columns):
        bars = []
        for cell in analysis.cells_of(column):
            if cell.versus:
                versus, verdict = cell.versus, cell.versus.verdict
                text = signed(versus.difference) + _MARKS[verdict]
                bars.append(Bar(cell.row, versus.difference, *versus.interval, text, verdict=verdict))
        if bars:
            title = column_title(column)
            drawn = draw_differences(f"differences{number}", title, bars)
            pictures.append((title, _picture(drawn)))
    return pictures


def _sweep_pictures(analysis: Analysis) -> list[tuple[str, Markup]]:
    """A picture per column: the metric over the swept key, as Figure 2 of the paper."""
    comparison = analysis.comparison
    if comparison.sweep_key is None:
        return []
    styles = _level_styles(comparison)
    pictures = []
    for number, column in enumerate(analysis.table.columns):
        cells = analysis.cells_of(column)
        swept = [cell for cell in cells if cell.row in comparison.sweep_values]
        points = sorted((comparison.sweep_values[cell.row], _bar(analysis, cell)) for cell in swept)
        levels = [Level(cell.mean, *styles[cell.row]) for cell in cells if cell.row in styles]
        if points:
            title = column_title(column)
            drawn = draw_sweep(f"sweep{number}", title, comparison.sweep_key, points, levels)
            pictures.append((title, _picture(drawn)))
    return pictures


def _level_styles(comparison: Comparison) -> dict[str, tuple[str, str]]:
    """Colour and dashes of the rows that the sweep does not touch; the swept line has the first colour."""
    levels = [name for name in comparison.names if name not in comparison.sweep_values and comparison.runs_of(name)]
    return {
        name: (BASELINE, "--") if name == comparison.baseline else (COLOURS[place % len(COLOURS)], "--")
        for place, name in enumerate(levels, 1)
    }


def _curves(analysis: Analysis) -> dict[str, Any] | None:
    """The picture of the validation metric over epochs, with the colours of its rows."""
    comparison = analysis.comparison
    curves = {
        name: [curve for run in comparison.runs_of(name) if (curve := validation_curve(run.folder)).epochs]
        for name in comparison.names
    }
    curves = {name: of_row for name, of_row in curves.items() if of_row}
    if not curves:
        return None
    metric = str(analysis.common.get("valid_metric", "validation metric"))
    styles = {name: row_style(place, name == comparison.baseline) for place, name in enumerate(comparison.names)}
    drawn = draw_curves("curves", f"{metric} on validation over epochs", curves, styles, metric)
    return {"picture": _picture(drawn), "rows": [(name, *styles[name]) for name in curves], "metric": metric}


# ---- tables


def _details(analysis: Analysis) -> list[tuple[str, list[list[str]]]]:
    """For every column that is tested: what the tests say of each row."""
    tables = []
    for column in analysis.table.columns:
        rows = []
        for cell in analysis.cells_of(column):
            if cell.versus is None:
                continue
            name, difference, *others = versus_texts(cell.row, cell.versus)
            rows.append([name, difference + _MARKS[cell.versus.verdict], *others])
        if rows:
            tables.append((column_title(column), rows))
    return tables


def _slice_tables(analysis: Analysis) -> list[dict[str, Any]]:
    """A table per fact: slices across, rows down; each cell with its shade."""
    if analysis.slices is None or analysis.principal is None:
        return []
    frame = in_column(analysis.slices, analysis.principal)
    largest = frame["difference"].abs().max() if "difference" in frame else 0.0
    tables = []
    for fact, title in FACTS.items():
        part = frame[frame["fact"] == fact]
        sizes = part.drop_duplicates("slice").set_index("slice")["users"]
        rows = [
            (name, [_slice_cell(line, largest) for line in of_row.to_dict("records")])
            for name, of_row in part.groupby("row", sort=False)
        ]
        tables.append({"title": title, "slices": list(sizes.items()), "rows": rows})
    return tables


def _slice_cell(line: dict[Any, Any], largest: float) -> dict[str, Any]:
    difference = line.get("difference")
    if difference is None or pd.isna(difference):
        return {"text": f"{line['mean']:.4f}", "shade": 0, "sign": "", "is_clear": False, "interval": ""}
    has_interval = not pd.isna(line["ci_low"])
    is_clear = has_interval and (line["ci_low"] > 0 or line["ci_high"] < 0)
    return {
        "text": signed(difference),
        # What may well be chance stays pale, however large.
        "shade": round((100 if is_clear else 35) * abs(difference) / largest) if largest else 0,
        "sign": "up" if difference > 0 else "down",
        "is_clear": is_clear,
        "interval": between(line["ci_low"], line["ci_high"]) if has_interval else "",
    }


def _context_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """A line per row of the context audit, in the principal column."""
    if analysis.contexts is None or analysis.principal is None:
        return []
    rows = []
    for line in in_column(analysis.contexts, analysis.principal).to_dict("records"):
        gains = []
        for context in CONTEXTS:
            gain = line.get(f"gain_{context}")
            if gain is None or pd.isna(gain):
                gains.append({"text": MISSING, "interval": ""})
            else:
                low, high = line[f"gain_{context}_low"], line[f"gain_{context}_high"]
                gains.append({"text": signed(gain), "interval": between(low, high)})
        kept = [line.get(f"kept_{context}") for context in CONTEXTS[1:]]
        rows.append(
            {
                "name": line["row"],
                "values": [f"{line[context]:.4f}" for context in CONTEXTS],
                "gains": gains,
                "kept": [MISSING if share is None or pd.isna(share) else f"{share:.0%}" for share in kept],
            }
        )
    return rows


def _environments(analysis: Analysis) -> list[str]:
    """Versions and devices of the runs, each kind once."""
    kinds = {
        ", ".join(f"{name} {value}" for name, value in run.result.get("environment", {}).items())
        for run in analysis.comparison.runs
    }
    return sorted(kind for kind in kinds if re.search(r"\S", kind))
