"""``report.md``: the results of a comparison in the form of the RecBole family's ``results/<dataset>.md``."""

import re

import pandas as pd
import yaml

from recbole_session.report import headings
from recbole_session.report.analysis import Analysis
from recbole_session.report.headings import one_line, written
from recbole_session.report.sentences import describe_split
from recbole_session.report.tables import frame_markdown, headed_markdown, markdown, markdown_table, metrics_markdown
from recbole_session.report.targets import FACTS
from recbole_session.report.tidy import in_column, wide
from recbole_session.run.folder import CONTEXTS


def markdown_report(analysis: Analysis) -> str:
    """Return the report. It holds no seconds and no dates: the same runs give the same bytes."""
    title = f"# {markdown(analysis.comparison.name)} on {markdown(analysis.comparison.dataset)}"
    parts = [title, *map(markdown, analysis.summary), *_setting(analysis), *_dataset(analysis)]
    parts += ["## Evaluation results", metrics_markdown(analysis).rstrip()]
    for section in (_differences, _slices, _contexts, _examples, _hyper_parameters):
        parts += section(analysis)
    return "\n\n".join(parts) + "\n"


def _setting(analysis: Analysis) -> list[str]:
    comparison, common = analysis.comparison, analysis.common
    sets = "; ".join(f"{_code(name)}: {markdown(words)}" for name, words in analysis.candidates.items())
    protocol = f"{describe_split(common)}. The target is ranked among {sets}."
    facts = {
        "Dataset": markdown(comparison.dataset),
        "Evaluation": protocol if analysis.columns else "no run has a result.",
        "Metrics": ", ".join(dict.fromkeys(markdown(headings.metric_title(metric)) for _, metric in analysis.columns)),
        "Seeds": ", ".join(map(str, comparison.seeds)),
        "Baseline": markdown(comparison.baseline),
    }
    if {"valid_metric", "valid_candidates"} <= common.keys():  # the same in all rows
        among = _code(common["valid_candidates"])
        facts["Choice of the epoch"] = f"{markdown(common['valid_metric'])} among {among} on validation"
    parts = ["## Experimental setting", *(f"**{name}:** {fact}" for name, fact in facts.items())]
    if common:
        text = yaml.safe_dump(common, sort_keys=True, allow_unicode=True, default_flow_style=None, width=110)
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))  # longer than any in the text
        parts.append(f"**Properties**, of all rows:\n\n{fence}yaml\n{text}{fence}")
    return parts


def _code(name: object) -> str:
    """A name in the font of code, where it has no marks that would end it."""
    return f"`{name}`" if re.fullmatch(r"[\w.@/ -]+", str(name)) else markdown(name)


def _dataset(analysis: Analysis) -> list[str]:
    if not analysis.dataset:
        return []
    line = pd.DataFrame([dict(analysis.dataset)], index=[analysis.comparison.dataset])
    return ["## Dataset statistics", frame_markdown("dataset", line)]


def _differences(analysis: Analysis) -> list[str]:
    lines = in_column(analysis.whole, analysis.principal)
    lines = lines[lines["p"].notna()]
    if not len(lines):
        return []
    return [
        f"### Differences from {markdown(analysis.comparison.baseline)}: {markdown(analysis.principal_title)}",
        headed_markdown(lines, headings.DIFFERENCES),
        "The interval, d_z and the p over users take the users as the sample, each with the mean over the seeds: they "
        "compare these trained models. The p over users and seeds takes the trainings as a second sample and compares "
        "the methods; it needs two seeds of the row and of the baseline. Other columns are in `significance.csv`.",
    ]


def _slices(analysis: Analysis) -> list[str]:
    title = "## Where the gain comes from"
    if analysis.no_slices:
        return [title, f"There are no slices: {markdown(analysis.no_slices)}."]
    lines = in_column(analysis.slices, analysis.principal)
    if not len(lines):
        return []
    lines = lines.assign(
        text=[_slice_text(line) for line in lines.to_dict("records")],
        title=[f"{line.slice} ({headings.how_many(line.users, line.targets)})" for line in lines.itertuples()],
    )
    return [
        title,
        f"{markdown(analysis.principal_title)}: the baseline's value, and the differences from it, among targets that "
        "have something in common. Bold: the 95% interval leaves out zero; the intervals are not corrected for how "
        "many there are, so they suggest and do not prove. The other columns are in `slices.csv`.",
        *(frame_markdown(name, wide(lines[lines["fact"] == fact], "title", "text")) for fact, name in FACTS.items()),
    ]


def _slice_text(line: dict[str, float]) -> str:
    if pd.isna(line["difference"]):
        return f"{line['mean']:.4f}"
    text = headings.signed(line["difference"])
    return f"**{text}**" if line["difference_ci_low"] > 0 or line["difference_ci_high"] < 0 else text


def _contexts(analysis: Analysis) -> list[str]:
    lines = in_column(analysis.contexts, analysis.principal)
    if not len(lines):
        return []
    texts = written(lines, headings.CONTEXT).assign(row=lines["row"], context=lines["context"])
    columns = {
        f"{heading.title} {context}": column
        for name, heading in headings.CONTEXT.items()
        for context, column in wide(texts, "context", name).items()
        if (name, context) != ("kept", CONTEXTS[0])
    }
    return [
        "## How much depends on knowing the context",
        f"{markdown(analysis.principal_title)}. Told: the model knows when the next interaction happens and whether "
        "it opens a session, as in the paper. Inferred: both are guessed from the history. Withheld: neither is given. "
        "The gain is over the baseline in the same context; kept is the share of the told gain that is left, where "
        "that gain is positive by its 95% interval. The other columns are in `context.csv`.",
        frame_markdown("model", pd.DataFrame(columns)),
    ]


def _examples(analysis: Analysis) -> list[str]:
    if analysis.principal is None or not len(analysis.examples):
        return []
    baseline, row = (markdown(name) for name in (analysis.comparison.baseline, analysis.compared))
    cells = analysis.examples.replace({"opens_session": {True: "first", False: "later"}}).map(markdown)
    header = ["user", "before, the latest items", "target", "in its session", f"rank by {baseline}", f"rank by {row}"]
    return [
        "## Examples",
        f"The test targets that gain and lose most in {row}, by rank among {_code(analysis.principal[0])} in one seed. "
        "They are picked for their extreme ranks and prove nothing.",
        markdown_table(header, cells.to_numpy(), align="---"),
    ]


def _hyper_parameters(analysis: Analysis) -> list[str]:
    if not analysis.differing:
        return []
    rows = [
        [markdown(name), "<br>".join(markdown(f"{key}={one_line(value)}") for key, value in values.items())]
        for name, values in analysis.differing.items()
    ]
    return ["## Hyper-parameters", markdown_table(["model", "keys that not all rows share"], rows, align="---")]
