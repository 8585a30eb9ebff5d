"""The metrics table and the table of costs, as Markdown, LaTeX and CSV.

The metrics table holds no seconds and no dates: the same runs give the same bytes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.report.cells import LOWER_IS_BETTER, Cell
from recbole_session.report.legend import BETTER, WORSE, legend
from recbole_session.report.user_values import Column

DECIMALS = 4
MISSING = "\N{EN DASH}"

_ACRONYMS = {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "gauc": "GAUC"}
_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


@dataclass(frozen=True)
class TableCell:
    """A value as it is printed, and how.

    Attributes
    ----------
    value, deviation : str
        ``0.1234``; ``deviation`` is empty with one seed.
    place : int
        1 for the best row of the column, 2 for the second best, else 0.
    verdict : str
        See `cells.Versus.verdict`.
    """

    value: str
    deviation: str
    place: int
    verdict: str


@dataclass(frozen=True)
class TableRow:
    """A row; without results, ``cells`` is empty and ``notes`` say why.

    ``notes`` are numbers, from 1, of entries of `Table.notes`.
    """

    name: str
    parameters: str
    n_seeds: int
    cells: tuple[TableCell, ...]
    notes: tuple[int, ...]


@dataclass(frozen=True)
class Table:
    """The metrics table."""

    baseline: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]
    legend: tuple[str, ...]


def signed(value: float, decimals: int = DECIMALS) -> str:
    """Write a difference for reading, with its sign; nothing but zeros has none."""
    text = f"{value:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")
    return text if text.strip("+\N{MINUS SIGN}0.") else text[1:]


def between(low: float, high: float) -> str:
    """Write an interval of differences for reading."""
    return f"{signed(low)} to {signed(high)}"


def metric_title(metric: str) -> str:
    """Return a metric's name as papers write it: ``ndcg@10`` is ``NDCG@10``, ``recall@10`` is ``Recall@10``."""
    name, at, k = metric.partition("@")
    return f"{_ACRONYMS.get(name, name.capitalize())}{at}{k}"


def build_table(comparison: Comparison, cells: Sequence[Cell]) -> Table:
    """Lay out the cells, and mark the best and the second best of every column and what is significant."""
    columns = tuple(dict.fromkeys((cell.candidates, cell.metric) for cell in cells))
    by_key = {(cell.row, cell.candidates, cell.metric): cell for cell in cells}
    places = {column: _places(cells, column) for column in columns}
    notes: list[str] = []
    rows = []
    for name in comparison.names:
        runs = comparison.runs_of(name)
        own = _failures(comparison, name)
        numbers = tuple(range(len(notes) + 1, len(notes) + 1 + len(own)))
        notes += own
        keys = [(name, *column) for column in columns] if runs else []
        shown = tuple(_table_cell(by_key[key], places[key[1:]].get(name, 0)) for key in keys)
        parameters = f"{runs[0].result['num_parameters']:,}" if runs else ""
        rows.append(TableRow(name, parameters, len(runs), shown, numbers))
    return Table(comparison.baseline, columns, tuple(rows), tuple(notes), tuple(legend(comparison, cells)))


def _table_cell(cell: Cell, place: int) -> TableCell:
    deviation = "" if cell.deviation is None else f"{cell.deviation:.{DECIMALS}f}"
    return TableCell(f"{cell.mean:.{DECIMALS}f}", deviation, place, cell.versus.verdict if cell.versus else "")


def _places(cells: Sequence[Cell], column: Column) -> dict[str, int]:
    """1 for the rows with the best mean, 2 for those with the second best, as they are printed."""
    means = {cell.row: round(cell.mean, DECIMALS) for cell in cells if (cell.candidates, cell.metric) == column}
    is_loss = column[1].partition("@")[0] in LOWER_IS_BETTER
    ordered = sorted(set(means.values()), reverse=not is_loss)[:2] if len(means) > 1 else []
    return {row: ordered.index(mean) + 1 for row, mean in means.items() if mean in ordered}


def _failures(comparison: Comparison, name: str) -> list[str]:
    """Why runs of a row have no result."""
    failures = [
        f"{name}, seed {seed}: failed: {' '.join(reason.split())}"
        for (row, seed), reason in sorted(comparison.failures.items())
        if row == name
    ]
    return failures or ([] if comparison.runs_of(name) else [f"{name}: not run"])


# ---- Markdown


def to_markdown(table: Table) -> str:
    """Return the table with its legend and notes as GitHub-flavoured Markdown."""
    header = ["model", "parameters", *(f"{metric_title(metric)} {candidates}" for candidates, metric in table.columns)]
    lines = [_markdown_line(header), _markdown_line(["---", *["---:"] * (len(header) - 1)])]
    for row in table.rows:
        name = _escaped(row.name, _MARKDOWN_SPECIAL) + "".join(f" [^{number}]" for number in row.notes)
        cells = [_markdown_cell(cell) for cell in row.cells] or [MISSING] * len(table.columns)
        lines.append(_markdown_line([name, row.parameters or MISSING, *cells]))
    lines += ["", *(line + ("" if line == table.legend[-1] else "  ") for line in table.legend)]
    if table.notes:
        lines += [""]
        lines += [f"[^{number}]: {_escaped(note, _MARKDOWN_SPECIAL)}" for number, note in enumerate(table.notes, 1)]
    return "\n".join(lines) + "\n"


_MARKDOWN_SPECIAL = {"|": r"\|", "<": "&lt;", ">": "&gt;", "*": r"\*"}


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: TableCell) -> str:
    value = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}[cell.place].format(cell.value)
    deviation = f" ± {cell.deviation}" if cell.deviation else ""
    return value + deviation + {"better": BETTER, "worse": WORSE, "": ""}[cell.verdict]


def _escaped(text: str, special: dict[str, str]) -> str:
    return "".join(special.get(letter, letter) for letter in text)


# ---- LaTeX


def to_latex(table: Table) -> str:
    """Return the table as LaTeX; it needs ``booktabs``, and asks for it in a comment."""
    spans = _spans([candidates for candidates, _ in table.columns])
    groups = " & ".join(rf"\multicolumn{{{n}}}{{c}}{{{_latex(name)}}}" for name, _, n in spans)
    rules = " ".join(rf"\cmidrule(lr){{{start + 3}-{start + 2 + n}}}" for _, start, n in spans)
    titles = " & ".join(_latex(metric_title(metric)) for _, metric in table.columns)
    lines = [
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * (1 + len(table.columns))}}}",
        r"\toprule",
        rf" & & {groups} \\",
        rules,
        rf"model & parameters & {titles} \\",
        r"\midrule",
    ]
    for row in table.rows:
        marks = f"$^{{{','.join(map(str, row.notes))}}}$" if row.notes else ""
        cells = [_latex_cell(cell) for cell in row.cells] or ["--"] * len(table.columns)
        lines.append(rf"{_latex(row.name)}{marks} & {row.parameters or '--'} & {' & '.join(cells)} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"% {_latex_comment(line)}" for line in table.legend]
    lines += [f"% {number}: {_latex_comment(note)}" for number, note in enumerate(table.notes, 1)]
    return "\n".join(lines) + "\n"


def _spans(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Runs of equal names: name, first place, length."""
    spans: list[tuple[str, int, int]] = []
    for place, name in enumerate(names):
        if spans and spans[-1][0] == name:
            spans[-1] = (name, spans[-1][1], spans[-1][2] + 1)
        else:
            spans.append((name, place, 1))
    return spans


def _latex(text: str) -> str:
    return _escaped(text, _LATEX_SPECIAL)


def _latex_comment(text: str) -> str:
    return text.replace(BETTER, r"$\dagger$").replace(WORSE, r"$\ddagger$").replace("±", r"$\pm$")


def _latex_cell(cell: TableCell) -> str:
    value = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}[cell.place].format(cell.value)
    deviation = rf" $\pm$ {cell.deviation}" if cell.deviation else ""
    return value + deviation + {"better": r"$^\dagger$", "worse": r"$^\ddagger$", "": ""}[cell.verdict]


# ---- CSV


def to_frame(table: Table, cells: Sequence[Cell]) -> pd.DataFrame:
    """Return the content of ``table.csv``: a line per row, three columns per metric, values unrounded."""
    by_key = {(cell.row, cell.candidates, cell.metric): cell for cell in cells}
    lines = []
    for row in table.rows:
        parameters = int(row.parameters.replace(",", "")) if row.parameters else None
        line: dict[str, Any] = {"row": row.name, "parameters": parameters, "seeds": row.n_seeds}
        for candidates, metric in table.columns:
            cell, title = by_key.get((row.name, candidates, metric)), f"{metric} {candidates}"
            line[title] = cell.mean if cell else None
            line[f"{title} sd"] = cell.deviation if cell else None
            line[f"{title} verdict"] = cell.versus.verdict if cell and cell.versus else None
        line["note"] = "; ".join(table.notes[number - 1] for number in row.notes) or None
        lines.append(line)
    return pd.DataFrame(lines).astype({"parameters": "Int64"})


# ---- costs


def costs_frame(comparison: Comparison) -> pd.DataFrame:
    """What each row took, a mean over its seeds: seconds, epochs, and where it ran."""
    lines = []
    for name in comparison.names:
        results = [run.result for run in comparison.runs_of(name)]
        lines.append(
            {
                "row": name,
                "seeds": len(results),
                "parameters": results[0]["num_parameters"] if results else None,
                "training_seconds": _mean(result["train_seconds"] for result in results),
                "evaluation_seconds": _mean(result["eval_seconds"] for result in results),
                "epochs_run": _mean(result["epochs_run"] for result in results),
                "best_epoch": _mean(result["best_epoch"] + 1 for result in results),
                "device": "; ".join(sorted({_where(result) for result in results})),
            }
        )
    return pd.DataFrame(lines).astype({"parameters": "Int64"})


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return statistics.fmean(values) if values else None


def _where(result: Any) -> str:
    facts = result.get("environment", {})
    return f"{facts.get('device', 'unknown')}, threads: {facts.get('threads', '?')}"


def costs_markdown(frame: pd.DataFrame) -> str:
    """Return the table of costs as Markdown."""
    header = ["model", "seeds", "parameters", "training, s", "evaluation, s", "epochs", "best epoch", "on"]
    lines = [_markdown_line(header), _markdown_line(["---", *["---:"] * (len(header) - 2), "---"])]
    lines += [_markdown_line([_escaped(cells[0], _MARKDOWN_SPECIAL), *cells[1:]]) for cells in costs_cells(frame)]
    note = (
        "Means over seeds. Training leaves validation out; seconds compare only between runs on the same idle machine."
    )
    return "\n".join([*lines, "", note]) + "\n"


def costs_cells(frame: pd.DataFrame) -> list[list[str]]:
    """Return the costs as texts, a list per row."""
    forms = {"training_seconds": ",.1f", "evaluation_seconds": ",.2f", "epochs_run": ",.1f", "best_epoch": ",.1f"}
    return [
        [
            line["row"],
            str(line["seeds"]),
            MISSING if pd.isna(line["parameters"]) else f"{line['parameters']:,}",
            *(MISSING if pd.isna(line[name]) else format(line[name], form) for name, form in forms.items()),
            line["device"] or MISSING,
        ]
        for line in frame.to_dict("records")
    ]
