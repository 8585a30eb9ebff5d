"""The tables of the report as Markdown, LaTeX and CSV. Every name is escaped here, as it is written."""

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.report.headings import BETTER, COSTS, DECIMALS, LIMITED, MISSING, WORSE, metric_title, written

_LATEX_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
        "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    }
)  # fmt: skip

_LATEX_SYMBOLS = str.maketrans({BETTER: r"$\dagger$", WORSE: r"$\ddagger$", LIMITED: r"\S", "±": r"$\pm$"})


def printable(text: object) -> str:
    """Text on one line, without control characters: it can neither leave a comment nor steer a terminal."""
    return "".join(letter for letter in " ".join(str(text).split()) if letter.isprintable())


def markdown(text: object) -> str:
    """Text as Markdown that shows it as it is, in a cell of a table too: no HTML, link or emphasis of its own."""
    escaped = html.escape(re.sub(r"[\\`*|~$]", r"\\\g<0>", printable(text)), quote=False)
    escaped = escaped.replace("](", r"]\(").replace("&lt; ", "< ")  # a blank opens no tag
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)


def latex(text: object) -> str:
    """Text as LaTeX that shows it as it is, at the start of a table's line too."""
    escaped = printable(text).translate(_LATEX_SPECIAL)
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped  # else an argument of the \\\\ before it


def metrics_columns(whole: pd.DataFrame) -> list[tuple[str, str]]:
    """Candidate sets and metrics of the metrics table, in order."""
    return list(dict.fromkeys(zip(whole["candidates"], whole["metric"], strict=True)))


def in_column(lines: pd.DataFrame, column: tuple[str, str]) -> pd.DataFrame:
    """Lines of one candidate set and metric."""
    return lines[(lines["candidates"] == column[0]) & (lines["metric"] == column[1])]


# How a format writes the parts of a metrics table: a value by its place in the column, and what follows it.
_MARKDOWN = {
    0: "{}", 1: "**{}**", 2: "<u>{}</u>", "sd": " ± {}", "epochs": LIMITED, "better": BETTER, "worse": WORSE, "": "",
    "missing": MISSING,
}  # fmt: skip
_LATEX = {
    0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}", "sd": r" $\pm$ {}", "epochs": r"$^\S$",
    "better": r"$^\dagger$", "worse": r"$^\ddagger$", "": "", "missing": "--",
}  # fmt: skip


def _metrics(
    comparison: Comparison, whole: pd.DataFrame, failures: Sequence[tuple[str, str]], parts: Mapping[Any, str]
) -> Iterator[tuple[str, list[int], list[str]]]:
    """Rows of the metrics table as text: name, numbers of its notes, and cells, the number of parameters first."""
    texts = [
        parts[line.place].format(f"{line.mean:.{DECIMALS}f}")
        + ("" if pd.isna(line.sd_over_seeds) else parts["sd"].format(f"{line.sd_over_seeds:.{DECIMALS}f}"))
        + (parts["epochs"] if line.epochs else "")
        + parts[line.verdict]
        for line in whole.itertuples()
    ]
    table = wide(whole.assign(text=texts), ["candidates", "metric"], "text").reindex(list(comparison.names))
    parameters = n_parameters(comparison)
    for name, cells in table.fillna(parts["missing"]).iterrows():
        count = f"{parameters[name]:,}" if name in parameters else parts["missing"]
        yield name, [number for number, (row, _) in enumerate(failures, 1) if row == name], [count, *cells]


def wide(lines: pd.DataFrame, across: str | list[str], values: str) -> pd.DataFrame:
    """One column of the tidy table, rows down and ``across`` across, both in order of appearance."""
    table = lines.pivot(index="row", columns=across, values=values)  # noqa: PD010  pivot_table drops what is missing
    order = lines[across].drop_duplicates()
    return table.loc[lines["row"].unique(), order if isinstance(order, pd.Series) else pd.MultiIndex.from_frame(order)]


def n_parameters(comparison: Comparison) -> dict[str, int]:
    """Number of parameters of the rows that have a result."""
    return {run.name: run.result["num_parameters"] for run in comparison.runs}


# ---- Markdown


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str = "---:") -> str:
    """Return a table whose cells are Markdown already; the first column is aligned left."""
    lines = [header, ["---", *[align] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def frame_markdown(first: str, texts: pd.DataFrame) -> str:
    """Write a frame of plain texts whose index holds the rows' names."""
    header = [markdown(title) for title in (first, *texts)]
    return markdown_table(header, [[markdown(name), *map(str, line)] for name, *line in texts.itertuples()])


def metrics_markdown(
    comparison: Comparison, whole: pd.DataFrame, legend: Sequence[str], failures: Sequence[tuple[str, str]]
) -> str:
    """Return the metrics table with its legend and notes."""
    header = ["model", "parameters", *(f"{metric_title(m)} {c}" for c, m in metrics_columns(whole))]
    rows = [
        [markdown(name) + "".join(f" [^{number}]" for number in notes), *texts]
        for name, notes, texts in _metrics(comparison, whole, failures, _MARKDOWN)
    ]
    parts = [markdown_table([markdown(title) for title in header], rows), "  \n".join(map(markdown, legend))]
    if failures:
        parts.append("\n".join(f"[^{number}]: {markdown(note)}" for number, (_, note) in enumerate(failures, 1)))
    return "\n\n".join(parts) + "\n"


# ---- LaTeX


def metrics_latex(
    comparison: Comparison, whole: pd.DataFrame, legend: Sequence[str], failures: Sequence[tuple[str, str]]
) -> str:
    """Return the metrics table as LaTeX; it needs ``booktabs``, as a comment in it says."""
    columns, groups, rules, last = metrics_columns(whole), [], [], 2
    for name, n in Counter(name for name, _ in columns).items():
        groups.append(rf"\multicolumn{{{n}}}{{c}}{{{latex(name)}}}")
        rules.append(rf"\cmidrule(lr){{{last + 1}-{last + n}}}")
        last += n
    titles = [latex(metric_title(metric)) for _, metric in columns]
    lines = [
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * (1 + len(titles))}}}",
        r"\toprule",
        rf" & & {' & '.join(groups)} \\",
        " ".join(rules),
        rf"{' & '.join(['model', 'parameters', *titles])} \\",
        r"\midrule",
    ]
    for name, notes, texts in _metrics(comparison, whole, failures, _LATEX):
        mark = f"$^{{{','.join(map(str, notes))}}}$" if notes else ""
        lines.append(rf"{latex(name)}{mark} & {' & '.join(texts)} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    comments = [*legend, *(f"{number}: {note}" for number, (_, note) in enumerate(failures, 1))]
    lines += [f"% {printable(text).translate(_LATEX_SYMBOLS)}" for text in comments]  # each on one line
    return "\n".join(lines) + "\n"


# ---- CSV


def metrics_frame(comparison: Comparison, whole: pd.DataFrame, failures: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return the content of ``table.csv``: a line per row, three columns per metric, values unrounded."""
    columns: dict[str, Any] = {
        "parameters": pd.Series(n_parameters(comparison)).reindex(comparison.names).astype("Int64"),
        "seeds": [len(comparison.runs_of(name)) for name in comparison.names],
    }
    tables = {
        ending: wide(whole, ["candidates", "metric"], name).reindex(list(comparison.names))
        for ending, name in {"": "mean", " sd": "sd_over_seeds", " verdict": "verdict"}.items()
    }
    for candidates, metric in metrics_columns(whole):
        for ending, table in tables.items():
            columns[f"{metric} {candidates}{ending}"] = table[candidates, metric]
    columns["note"] = ["; ".join(note for row, note in failures if row == name) for name in comparison.names]
    return pd.DataFrame(columns, index=pd.Index(comparison.names, name="row")).reset_index()


def csv_text(frame: pd.DataFrame, safe: bool = False) -> str:
    """Return a CSV with six decimals: later ones may differ between machines.

    With ``safe``, a ``'`` stands before every text that a spreadsheet would take for a formula.
    """
    if safe:
        frame = frame.rename(columns=_without_formula).map(_without_formula)
    return frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def _without_formula(cell: Any) -> Any:
    """Put a ``'`` before a text that starts as a formula does, see "CSV Injection" at OWASP."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else cell


# ---- costs


def costs_frame(comparison: Comparison) -> pd.DataFrame:
    """What each row took, a mean over its seeds: seconds, epochs, and where it ran."""
    names = ["seed", "num_parameters", "train_seconds", "eval_seconds", "epochs_run", "best_epoch", "environment"]
    results = pd.DataFrame([run.result for run in comparison.runs], columns=names)
    costs = results.groupby([run.name for run in comparison.runs]).agg(
        seeds=("seed", "size"),
        parameters=("num_parameters", "first"),
        training_seconds=("train_seconds", "mean"),
        evaluation_seconds=("eval_seconds", "mean"),
        epochs_run=("epochs_run", "mean"),
        best_epoch=("best_epoch", lambda epochs: epochs.mean() + 1),
        device=("environment", lambda of: "; ".join(sorted({f"{e['device']}, threads: {e['threads']}" for e in of}))),
    )
    costs = costs.reindex(pd.Index(comparison.names, name="row")).fillna({"seeds": 0})
    return costs.astype({"seeds": int, "parameters": "Int64"}).reset_index()


def costs_markdown(costs: pd.DataFrame) -> str:
    """Return the table of costs as Markdown."""
    titles = {name: heading.title for name, heading in COSTS.items()}
    texts = written(costs.set_index("row"), COSTS).map(markdown).rename(columns=titles)
    note = "Training leaves validation out; compare seconds only between runs on the same idle machine."
    return f"{frame_markdown('model', texts)}\n\nMeans over seeds. {note}\n"
