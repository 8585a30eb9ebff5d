"""How much of a gain depends on being told when, and in which session, the next interaction happens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.errors import InputError
from recbole_session.report.significance import bootstrap_means, percentile_interval
from recbole_session.report.user_values import UserValues, read_user_values
from recbole_session.run.folder import CONTEXTS

N_RESAMPLES = 2_000


def audited(comparison: Comparison) -> Comparison:
    """Return the comparison with only those runs whose context has been audited."""
    files = [f"ranks-{context}.csv" for context in CONTEXTS if context != "told"]
    runs = tuple(run for run in comparison.runs if all((run.folder / file).is_file() for file in files))
    return replace(comparison, runs=runs)


def context_frame(comparison: Comparison) -> pd.DataFrame | None:
    """Metrics and gains of every row with the context told, inferred and withheld.

    The gain in a context is the row's metric less the baseline's in the same context.

    Returns
    -------
    DataFrame or None
        None where no run has been audited. Else a line per row and column: ``row candidates metric``, for each context
        ``<context>`` (mean over users and seeds) and, but for the baseline, ``gain_<context>`` with the ends of its
        95% bootstrap interval ``gain_<context>_low``, ``gain_<context>_high``; and ``kept_inferred``,
        ``kept_withheld``: the share of the told gain that is left, missing where the told gain is not positive by
        its interval.
    """
    comparison = audited(comparison)
    if not comparison.runs:
        return None
    values = {context: read_user_values(comparison, context) for context in CONTEXTS}
    told = values["told"]
    for context in CONTEXTS:
        if (values[context].users, values[context].items) != (told.users, told.items):
            raise InputError(
                f"ranks-{context}.csv has other users or targets than ranks.csv; make the context audit anew"
            )
    gains = {context: _gains(values[context], comparison.baseline) for context in CONTEXTS}
    lines = []
    for name in told.by_row:
        for place, (candidates, metric) in enumerate(told.columns):
            line: dict[str, object] = {"row": name, "candidates": candidates, "metric": metric}
            line |= {context: values[context].mean_of(name)[:, place].mean() for context in CONTEXTS}
            if name in gains["told"]:
                of_row = {context: gains[context][name][place] for context in CONTEXTS}
                for context, (gain, low, high) in of_row.items():
                    line |= {f"gain_{context}": gain, f"gain_{context}_low": low, f"gain_{context}_high": high}
                told_gain, told_low, _ = of_row["told"]
                for context in CONTEXTS[1:]:
                    line[f"kept_{context}"] = of_row[context][0] / told_gain if told_low > 0 else None
            lines.append(line)
    return pd.DataFrame(lines)


def _gains(values: UserValues, baseline: str) -> dict[str, list[tuple[float, float, float]]]:
    """By row, for every column: the gain over the baseline and the ends of its interval."""
    others = [name for name in values.by_row if name != baseline]
    if baseline not in values.by_row or not others or not values.columns:
        return {}
    differences = np.stack([values.mean_of(name) - values.mean_of(baseline) for name in others], axis=1)
    means = bootstrap_means(differences.reshape(len(differences), -1), N_RESAMPLES)
    low, high = percentile_interval(means.reshape(N_RESAMPLES, *differences.shape[1:]))
    gain = differences.mean(axis=0)
    return {
        name: list(zip(gain[place].tolist(), low[place].tolist(), high[place].tolist(), strict=True))
        for place, name in enumerate(others)
    }
