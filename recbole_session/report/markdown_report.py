"""``report.md``: the results of a comparison in the form of the RecBole family's ``results/<dataset>.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
import yaml

from recbole_session.compare.row_settings import one_line
from recbole_session.report.analysis import Analysis, column_title, summary, versus_texts
from recbole_session.report.slices import FACTS
from recbole_session.report.table import MISSING, metric_title, signed, to_markdown
from recbole_session.run.folder import CONTEXTS

CANDIDATE_SETS = {
    "random": "{n} items drawn at random outside the user's history, and the target",
    "popular": "the {n} most popular items outside the user's history, and the target",
    "all": "all items",
}


def describe_candidates(name: str, n_negatives: object) -> str:
    """Say in words among which items a target is ranked."""
    return CANDIDATE_SETS.get(name, "a user's own list, and the target").format(n=n_negatives)


def markdown_report(analysis: Analysis) -> str:
    """Return the report. It holds no seconds and no dates: the same runs give the same bytes."""
    parts = [
        f"# {analysis.comparison.name} on {analysis.comparison.dataset}",
        *summary(analysis),
        *_setting(analysis),
        *_dataset(analysis),
        "## Evaluation results",
        to_markdown(analysis.table).rstrip(),
        *_differences(analysis),
        *_slices(analysis),
        *_contexts(analysis),
        *_hyper_parameters(analysis),
    ]
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _setting(analysis: Analysis) -> list[str]:
    comparison, common = analysis.comparison, analysis.common
    candidates = list(dict.fromkeys(name for name, _ in analysis.table.columns))
    metrics = list(dict.fromkeys(metric_title(metric) for _, metric in analysis.table.columns))
    sets = "; ".join(f"`{name}`: {describe_candidates(name, common.get('num_negatives', '?'))}" for name in candidates)
    seeds = sorted({run.seed for run in comparison.runs})
    parts = [
        "## Experimental setting",
        f"**Dataset:** {comparison.dataset}",
        "**Evaluation:** leave one out by time: a user's last interaction is tested, the one before it validates. "
        f"The target is ranked among {sets}." if candidates else "**Evaluation:** no run has a result.",
        f"**Metrics:** {', '.join(metrics)}",
        f"**Seeds:** {', '.join(map(str, seeds))}",
        f"**Baseline:** {comparison.baseline}",
    ]  # fmt: skip
    if common.get("valid_metric"):
        parts.append(
            f"**Choice of the epoch:** {common['valid_metric']} among `{common['valid_candidates']}` on validation"
        )
    if common:
        parts.append(f"**Properties**, of all rows:\n\n```yaml\n{_yaml(common)}```")
    return parts


def _yaml(values: object) -> str:
    return yaml.safe_dump(values, sort_keys=True, allow_unicode=True, default_flow_style=None, width=110)


def _dataset(analysis: Analysis) -> list[str]:
    if not analysis.dataset:
        return []
    names, values = zip(*analysis.dataset, strict=True)
    return ["## Dataset statistics", _table(["dataset", *names], [[analysis.comparison.dataset, *values]])]


def _differences(analysis: Analysis) -> list[str]:
    cells = [cell for cell in analysis.cells if cell.versus]
    if not cells or analysis.principal is None:
        return []
    rows = []
    for cell in cells:
        versus = cell.versus
        if versus is None or (cell.candidates, cell.metric) != analysis.principal:
            continue
        rows.append(versus_texts(cell.row, versus))
    header = [
        "model",
        "difference",
        "95% interval",
        "p, users",
        "p, users (Holm)",
        "p, users and seeds (Holm)",
        "d_z",
        "users better",
        "users worse",
        "seeds better",
    ]
    return [
        f"### Differences from {analysis.comparison.baseline}: {column_title(analysis.principal)}",
        _table(header, rows),
        "The interval, d_z and the p over users take the users as the sample, each with the mean over the seeds: they "
        "speak of these trained models. The p over users and seeds takes the trainings as a second sample and speaks "
        "of the methods; it needs two seeds of the row and of the baseline. Other columns are in `significance.csv`.",
    ]


def _slices(analysis: Analysis) -> list[str]:
    if analysis.slices is None:
        return ["## Where the gain comes from", f"Not told: {analysis.no_slices}."]
    if analysis.principal is None:
        return []
    parts = [
        "## Where the gain comes from",
        f"{column_title(analysis.principal)}: the baseline's value, and the differences from it, among users that have "
        "something in common. Bold: the 95% interval leaves out zero; the intervals are not corrected for how many "
        "there are, so they suggest and do not prove. The other columns are in `slices.csv`.",
    ]
    frame = in_column(analysis.slices, analysis.principal)
    for fact, title in FACTS.items():
        part = frame[frame["fact"] == fact]
        sizes = part.drop_duplicates("slice").set_index("slice")["users"]
        header = [title, *(f"{name} ({n:,} users)" for name, n in sizes.items())]
        rows = [
            [name, *(_slice_text(line, name == analysis.comparison.baseline) for line in of_row.to_dict("records"))]
            for name, of_row in part.groupby("row", sort=False)
        ]
        parts.append(_table(header, rows))
    return parts


def in_column(frame: pd.DataFrame, column: tuple[str, str]) -> pd.DataFrame:
    """Lines of one candidate set and metric."""
    return frame[(frame["candidates"] == column[0]) & (frame["metric"] == column[1])]


def _slice_text(line: dict[str, float], is_baseline: bool) -> str:
    if is_baseline or "difference" not in line or pd.isna(line["difference"]):
        return f"{line['mean']:.4f}"
    text = signed(line["difference"])
    return f"**{text}**" if line["ci_low"] > 0 or line["ci_high"] < 0 else text


def _contexts(analysis: Analysis) -> list[str]:
    if analysis.contexts is None or analysis.principal is None:
        return []
    frame = in_column(analysis.contexts, analysis.principal)
    header = ["model", *CONTEXTS, *(f"gain {context}" for context in CONTEXTS), "kept inferred", "kept withheld"]
    rows = []
    for line in frame.to_dict("records"):
        gains = [line.get(f"gain_{context}") for context in CONTEXTS]
        kept = [line.get("kept_inferred"), line.get("kept_withheld")]
        rows.append(
            [
                line["row"],
                *(f"{line[context]:.4f}" for context in CONTEXTS),
                *(MISSING if pd.isna(gain) else signed(gain) for gain in gains),
                *(MISSING if pd.isna(share) else f"{share:.0%}" for share in kept),
            ]
        )
    return [
        "## How much depends on being told the context",
        f"{column_title(analysis.principal)}. Told: the model knows when the next interaction happens and whether it "
        "opens a session, as in the paper. Inferred: both are guessed from the history. Withheld: neither is given. "
        "The gain is over the baseline in the same context; kept is the share of the told gain that is left, where "
        "that gain is positive by its 95% interval. The other columns are in `context.csv`.",
        _table(header, rows),
    ]


def _hyper_parameters(analysis: Analysis) -> list[str]:
    if not analysis.differing:
        return []
    lines = ["| model | keys that not all rows share |", "| --- | --- |"]
    for name, values in analysis.differing.items():
        text = "<br>".join(f"{key}={one_line(value)}" for key, value in values.items())
        lines.append(f"| {name} | {text.replace('|', chr(92) + '|')} |")
    return ["## Hyper-parameters", "\n".join(lines)]
