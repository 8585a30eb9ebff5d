"""The tables of the report as Markdown, LaTeX and CSV. Every name is escaped here, as it is written."""

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from recbole_session.report.analysis import Analysis
from recbole_session.report.headings import BETTER, COSTS, DECIMALS, LIMITED, MISSING, WORSE, metric_title, written
from recbole_session.report.tidy import wide

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


# How a format writes the parts of a metrics table: a value by its place in the column, and what follows it.
_MARKDOWN = {
    0: "{}", 1: "**{}**", 2: "<u>{}</u>", "sd": " ± {}", "epochs": LIMITED, "better": BETTER, "worse": WORSE, "": "",
    "missing": MISSING,
}  # fmt: skip
_LATEX = {
    0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}", "sd": r" $\pm$ {}", "epochs": r"$^\S$",
    "better": r"$^\dagger$", "worse": r"$^\ddagger$", "": "", "missing": "--",
}  # fmt: skip


def _metrics(analysis: Analysis, parts: Mapping[Any, str]) -> Iterator[tuple[str, list[int], list[str]]]:
    """Rows of the metrics table as text: name, numbers of its notes, and cells, the number of parameters first."""
    texts = [
        parts[line.place].format(f"{line.mean:.{DECIMALS}f}")
        + ("" if pd.isna(line.sd_over_seeds) else parts["sd"].format(f"{line.sd_over_seeds:.{DECIMALS}f}"))
        + (parts["epochs"] if line.epochs else "")
        + parts[line.verdict]
        for line in analysis.whole.itertuples()
    ]
    table = wide(analysis.whole.assign(text=texts), ["candidates", "metric"], "text")
    parameters = analysis.costs.set_index("row")["parameters"]
    for name, cells in table.reindex(parameters.index).fillna(parts["missing"]).iterrows():
        count = parts["missing"] if pd.isna(parameters[name]) else f"{parameters[name]:,}"
        yield name, [number for number, (row, _) in enumerate(analysis.failures, 1) if row == name], [count, *cells]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str = "---:") -> str:
    """Return a table whose cells are Markdown already; the first column is aligned left."""
    lines = [header, ["---", *[align] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def frame_markdown(first: str, texts: pd.DataFrame) -> str:
    """Write a frame of plain texts whose index holds the rows' names."""
    header = [markdown(title) for title in (first, *texts)]
    return markdown_table(header, [[markdown(name), *map(str, line)] for name, *line in texts.itertuples()])


def headed_markdown(lines: pd.DataFrame, headings: Mapping[str, Any]) -> str:
    """Write the columns of some lines that have one of the `headings.Heading`."""
    titles = {name: heading.title for name, heading in headings.items()}
    return frame_markdown("model", written(lines.set_index("row"), headings).map(markdown).rename(columns=titles))


def metrics_markdown(analysis: Analysis) -> str:
    """Return the metrics table with its legend and notes."""
    header = ["model", "parameters", *(f"{metric_title(m)} {c}" for c, m in analysis.columns)]
    rows = [
        [markdown(name) + "".join(f" [^{number}]" for number in numbers), *texts]
        for name, numbers, texts in _metrics(analysis, _MARKDOWN)
    ]
    parts = [markdown_table([markdown(title) for title in header], rows), "  \n".join(map(markdown, analysis.legend))]
    if notes := [f"[^{number}]: {markdown(note)}" for number, (_, note) in enumerate(analysis.failures, 1)]:
        parts.append("\n".join(notes))
    return "\n\n".join(parts) + "\n"


def metrics_latex(analysis: Analysis) -> str:
    """Return the metrics table as LaTeX; it needs ``booktabs``, as a comment in it says."""
    groups, rules, last = [], [], 2
    for name, n in Counter(name for name, _ in analysis.columns).items():
        groups.append(rf"\multicolumn{{{n}}}{{c}}{{{latex(name)}}}")
        rules.append(rf"\cmidrule(lr){{{last + 1}-{last + n}}}")
        last += n
    titles = [latex(metric_title(metric)) for _, metric in analysis.columns]
    lines = [
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * (1 + len(titles))}}}",
        r"\toprule",
        rf" & & {' & '.join(groups)} \\",
        " ".join(rules),
        rf"{' & '.join(['model', 'parameters', *titles])} \\",
        r"\midrule",
    ]
    for name, notes, texts in _metrics(analysis, _LATEX):
        mark = f"$^{{{','.join(map(str, notes))}}}$" if notes else ""
        lines.append(rf"{latex(name)}{mark} & {' & '.join(texts)} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    comments = [*analysis.legend, *(f"{number}: {note}" for number, (_, note) in enumerate(analysis.failures, 1))]
    lines += [f"% {printable(text).translate(_LATEX_SYMBOLS)}" for text in comments]  # each on one line
    return "\n".join(lines) + "\n"


def metrics_frame(analysis: Analysis) -> pd.DataFrame:
    """Return the content of ``table.csv``: a line per row, three columns per metric, values unrounded."""
    table = analysis.costs.set_index("row")[["parameters", "seeds"]]
    parts = {
        ending: wide(analysis.whole, ["candidates", "metric"], name).reindex(table.index)
        for ending, name in {"": "mean", " sd": "sd_over_seeds", " verdict": "verdict"}.items()
    }
    for candidates, metric in analysis.columns:
        for ending, part in parts.items():
            table[f"{metric} {candidates}{ending}"] = part[candidates, metric]
    table["note"] = ["; ".join(note for row, note in analysis.failures if row == name) for name in table.index]
    return table.reset_index()


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


def costs_markdown(costs: pd.DataFrame) -> str:
    """Return the table of costs as Markdown."""
    note = "Training leaves validation out; compare seconds only between runs on the same idle machine."
    return f"{headed_markdown(costs, COSTS)}\n\nMeans over seeds. {note}\n"
