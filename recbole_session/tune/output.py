"""What a search leaves behind: the best configuration, the table of trials, and the importance of the keys."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_session.config.values import dump_yaml
from recbole_session.files import replacing
from recbole_session.tune.search_space import decode
from recbole_session.tune.tuning import Search, best_trial

if TYPE_CHECKING:
    import optuna

_MIN_FOR_IMPORTANCE = 4  # trials that ran to their end


def write_best(
    study: optuna.Study, search: Search, folder: Path, config_files: Sequence[str], given: Mapping[str, Any]
) -> Path | None:
    """Write best.yaml: the keys that were given, and those that were found; None where no trial ran to its end.

    Parameters
    ----------
    study : optuna.Study
    search : Search
    folder : Path
    config_files : sequence of str
        Are not repeated in the file, but named in the command at its top.
    given : Mapping
        Keys of the command line.
    """
    best = best_trial(study)
    if best is None:
        return None
    path = folder / "best.yaml"
    keys = {"model": search.config["model"], "dataset": search.dataset, **given, **decode(search.space, best.params)}
    files = shlex.quote(" ".join([*config_files, str(path)]))
    head = (
        f"# {search.metric} {best.value:.6f}: the best of {len(study.trials)} trials, number {best.number}\n"
        f"# python run_recbole_session.py --config_files={files}\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(head + dump_yaml(keys), encoding="utf-8")
    return path


def write_trials(study: optuna.Study, search: Search, folder: Path) -> Path:
    """Write trials.csv: a row per trial, with its state, its value on validation and its keys."""
    path = folder / "trials.csv"
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "state", "value", "epoch", "epochs_run", *search.space, "failure"])
        for trial in study.trials:
            keys = decode(search.space, trial.params)
            steps = [trial.user_attrs.get(name, "") for name in ("epoch", "epochs_run")]
            if trial.state.name == "PRUNED":
                steps[1] = max(trial.intermediate_values, default="")
            value = "" if trial.value is None else trial.value
            failure = "made anew" if "made anew" in trial.user_attrs else trial.user_attrs.get("failure", "")
            values = [keys.get(key, "") for key in search.space]
            writer.writerow([trial.number, trial.state.name.lower(), value, *steps, *values, failure])
    return path


def importances(study: optuna.Study) -> dict[str, float]:
    """Importance of each key, the largest first; empty where too few trials, or equal ones, say nothing.

    fANOVA [1]_: the share of the variance of the metric, over the space, that a key explains on its own.

    .. [1] Hutter, Hoos, Leyton-Brown: An efficient approach for assessing hyperparameter importance. ICML 2014.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    values = [trial.value for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])]
    if len(values) < _MIN_FOR_IMPORTANCE or len(set(values)) == 1:
        return {}
    return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))


def draw_importances(values: Mapping[str, float], metric: str, folder: Path) -> Path | None:
    """Draw a bar per key; None where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 0.9 + 0.35 * len(values)), layout="constrained")
    axes = figure.subplots()
    names = list(values)[::-1]
    bars = axes.barh(names, [values[name] for name in names], color="#4477aa")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlim(0, 1.1 * max(values.values()))
    axes.set_xlabel(f"share of the variance of {metric}")
    axes.spines[["top", "right"]].set_visible(False)
    path = folder / "importance.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return path
