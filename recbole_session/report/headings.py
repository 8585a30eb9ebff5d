"""How numbers and names are written for reading, and the headings of the report's columns."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd

DECIMALS = 4
MISSING = "\N{EN DASH}"
BETTER, WORSE, LIMITED = "†", "‡", "§"

_ACRONYMS = {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "gauc": "GAUC"}


def signed(value: float, decimals: int = DECIMALS) -> str:
    """Write a difference with its sign; zero has none."""
    text = f"{value:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")
    return text if text.strip("+\N{MINUS SIGN}0.") else text[1:]


def interval_of_difference(line: Mapping[str, Any]) -> str:
    """Write the interval of a line's difference; it is missing for a single user."""
    low, high = line["difference_ci_low"], line["difference_ci_high"]
    return MISSING if pd.isna(low) else f"{signed(low)} to {signed(high)}"


def written_p(p: float) -> str:
    """Write a p-value."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def how_many(users: int, targets: int) -> str:
    """Write the size of a sample; the targets only where users have several."""
    return f"{users:,} users" + (f", {targets:,} targets" if targets != users else "")


def one_line(value: Any) -> str:
    """Write a value as YAML has it, on one line."""
    if value is None:
        return "~"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {one_line(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(one_line, value)) + "]"
    return str(value)


def metric_title(metric: str) -> str:
    """Return a metric's name as papers write it: ``ndcg@10`` is ``NDCG@10``, ``recall@10`` is ``Recall@10``."""
    name, at, k = metric.partition("@")
    return f"{_ACRONYMS.get(name, name.capitalize())}{at}{k}"


def column_title(candidates: str, metric: str) -> str:
    """``NDCG@10 among all items``."""
    among = {"all": "all items", "random": "random items", "popular": "popular items"}
    return f"{metric_title(metric)} among {among.get(candidates, candidates)}"


class Heading(NamedTuple):
    """Title of a column, and how a line of the table is written there."""

    title: str
    write: Callable[[Mapping[str, Any]], str]


# By column of the tidy table: a row's own value, and what the report says of it against the baseline.
VALUES: dict[str, Heading] = {
    "mean": Heading("value", lambda line: f"{line['mean']:.{DECIMALS}f}"),
    "ci_low": Heading("95% interval of the value", lambda line: "{ci_low:.4f} to {ci_high:.4f}".format_map(line)),
}
DIFFERENCES: dict[str, Heading] = {
    "difference": Heading("difference", lambda line: signed(line["difference"])),
    "difference_ci_low": Heading("95% interval", interval_of_difference),
    "p": Heading("p, users", lambda line: written_p(line["p"])),
    "p_holm": Heading("p, users (Holm)", lambda line: written_p(line["p_holm"])),
    "p_methods_holm": Heading("p, users and seeds (Holm)", lambda line: written_p(line["p_methods_holm"])),
    "d_z": Heading("d_z", lambda line: signed(line["d_z"], 3)),
    "users_improved": Heading("users better", lambda line: f"{line['users_improved']:.1%}"),
    "users_worsened": Heading("users worse", lambda line: f"{line['users_worsened']:.1%}"),
    "seeds_better": Heading("seeds better", lambda line: f"{line['seeds_better']} of {line['seeds_paired']}"),
}

# In the audit of the context.
CONTEXT: dict[str, Heading] = {
    "mean": VALUES["mean"],
    "difference": Heading("gain", lambda line: signed(line["difference"])),
    "kept": Heading("kept", lambda line: f"{line['kept']:.0%}"),
}

COSTS: dict[str, Heading] = {
    "seeds": Heading("seeds", lambda line: str(line["seeds"])),
    "parameters": Heading("parameters", lambda line: f"{line['parameters']:,}"),
    "training_seconds": Heading("training, s", lambda line: f"{line['training_seconds']:,.1f}"),
    "evaluation_seconds": Heading("evaluation, s", lambda line: f"{line['evaluation_seconds']:,.2f}"),
    "epochs_run": Heading("epochs", lambda line: f"{line['epochs_run']:,.1f}"),
    "best_epoch": Heading("best epoch", lambda line: f"{line['best_epoch']:,.1f}"),
    "device": Heading("on", lambda line: line["device"]),
}


def written(frame: pd.DataFrame, headings: Mapping[str, Heading]) -> pd.DataFrame:
    """Write the columns that have a heading as text, under the same names."""
    lines = frame.to_dict("records")
    texts = {
        name: [MISSING if name not in line or pd.isna(line[name]) else heading.write(line) for line in lines]
        for name, heading in headings.items()
    }
    return pd.DataFrame(texts, index=frame.index)
