"""``report.html``: one file without network, to explore results in: the page's script draws what its pickers choose."""

import os
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from recbole_session.report import headings
from recbole_session.report.analysis import Analysis
from recbole_session.report.sentences import describe_split
from recbole_session.report.significance import N_RESAMPLES
from recbole_session.report.targets import FACTS
from recbole_session.report.tidy import ALPHA
from recbole_session.run.folder import CONTEXTS
from recbole_session.run.run import Run

_TAG = "Vaild_score"  # spelled so in RecBole's trainer
_HERE = Path(__file__).parent
_HEADINGS = {"value": headings.VALUES, "difference": headings.DIFFERENCES, "context": headings.CONTEXT}


def html_report(analysis: Analysis, folder: Path) -> str:
    """Return the page; links to the runs start from ``folder``, where it will lie."""
    strict = jinja2.StrictUndefined
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=strict)
    environment.policies["json.dumps_kwargs"] = {}  # jinja sorts keys, whose order is that of the headings
    template = environment.from_string((_HERE / "report.html.jinja").read_text(encoding="utf-8"))
    comparison, costs = analysis.comparison, analysis.costs.set_index("row")
    return template.render(
        analysis=analysis,
        comparison=comparison,
        split=describe_split(analysis.common),
        spans=Counter(name for name, _ in analysis.columns),
        cells={(line["row"], line["candidates"], line["metric"]): line for line in analysis.whole.to_dict("records")},
        isna=pd.isna,
        marks={"better": headings.BETTER, "worse": headings.WORSE, "": ""},
        headings=headings,
        costs=costs.to_dict("index"),
        costs_texts=headings.written(costs, headings.COSTS).to_dict("index"),
        link=lambda run: quote(Path(os.path.relpath(run.folder, folder)).as_posix()) + "/",
        common=_yaml(analysis.common),
        settings=_yaml(dict(comparison.settings)),
        environments=sorted({_environment(run) for run in comparison.runs}),
        alpha=ALPHA,
        n_resamples=N_RESAMPLES,
        data=_data(analysis),
        script=Markup((_HERE / "report.js").read_text(encoding="utf-8")),
    )


def _data(analysis: Analysis) -> dict[str, Any]:
    """Return what the script draws: the tidy table, with its texts, and the learning curves."""
    comparison = analysis.comparison
    curves = [
        {"row": name, "seed": run.seed, "points": points}
        for name in comparison.names
        for run in comparison.runs_of(name)
        if (points := validation_curve(run.folder))
    ]
    return {
        "baseline": comparison.baseline,
        "rows": comparison.names,
        "principal": analysis.principal,
        "columns": [(*each, headings.column_title(*each), headings.metric_title(each[1])) for each in analysis.columns],
        "facts": FACTS,
        "contexts": CONTEXTS,
        "headings": {name: {key: heading.title for key, heading in table.items()} for name, table in _HEADINGS.items()},
        "lines": _lines(analysis.table),
        "sweep": {"key": comparison.sweep_key, "values": dict(comparison.sweep_values)},
        "curves": curves,
        "curve_metric": str(analysis.common.get("valid_metric", "validation metric")),
    }


def _lines(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Lines of the tidy table: numbers to draw, and under ``texts`` what to show for them; nothing that is missing."""
    texts = {name: headings.written(table, each).to_dict("records") for name, each in _HEADINGS.items()}
    keys = ["row", "candidates", "metric", "fact", "slice", "context", "verdict"]
    wanted = [*headings.VALUES, "ci_high", *headings.DIFFERENCES, "difference_ci_high", "kept"]
    lines = []
    for place, line in enumerate(table.to_dict("records")):
        content = {name: line[name] for name in keys}
        numbers = {name: round(float(line[name]), 6) for name in wanted if name in line and not pd.isna(line[name])}
        shown = [texts[name][place] for name in ("value", "difference", *(["context"] if line["context"] else []))]
        written = {name: text for each in shown for name, text in each.items() if text != headings.MISSING}
        sample = headings.how_many(line["users"], line["targets"])
        lines.append(content | numbers | {"sample": sample, "texts": written})
    return lines


def _yaml(values: Any) -> str:
    return yaml.safe_dump(values, sort_keys=True, allow_unicode=True, width=100) if values else ""


def _environment(run: Run) -> str:
    """Versions and device of a run."""
    return ", ".join(f"{name} {value}" for name, value in run.result["environment"].items())


def validation_curve(run_folder: Path) -> list[tuple[int, float]]:
    """Read the validation history of a run: epochs, from 1, and the metric there; empty where there is none.

    An epoch that was trained twice, because the run was killed after it and resumed, counts as it was the last time.
    """
    folder = run_folder / "tensorboard"
    if not folder.is_dir():
        return []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    if _TAG not in events.Tags()["scalars"]:
        return []
    in_time = sorted(events.Scalars(_TAG), key=lambda event: event.wall_time)
    return sorted({event.step + 1: event.value for event in in_time}.items())
