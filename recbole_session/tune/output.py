"""What a search leaves behind: the best configuration, the table of trials, and the importance of the keys."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from recbole_session.config.values import dump_yaml
from recbole_session.files import replacing
from recbole_session.tune.search_space import Search, decode
from recbole_session.tune.view import best_trial, repetitions

FILES = ("best.yaml", "trials.csv", "importance.png")
_MIN_FOR_IMPORTANCE = 4  # trials that ran to their end


def write_best(
    study: optuna.Study, search: Search, folder: Path, config_files: Sequence[str], given: Mapping[str, Any]
) -> Path | None:
    """Write best.yaml: the keys of the command line, and those that were found; None where no trial ran to its end.

    ``config_files`` are named in the command at the top of the file; their keys are not repeated in it.
    """
    best = best_trial(study)
    if best is None:
        return None
    path = folder / FILES[0]
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
    attributes = ["epoch", "epochs_run", "failure"]
    frame = study.trials_dataframe(attrs=("number", "state", "value", "user_attrs", "params"))
    frame.columns = pd.Index([name.removeprefix("user_attrs_").removeprefix("params_") for name in frame.columns])
    frame = frame.reindex(columns=["number", "state", "value", *attributes[:2], *search.space, attributes[2]])
    frame["state"] = frame["state"].str.lower()
    repeated = frame["number"].map({lost: f"repeated as trial {number}" for lost, number in repetitions(study).items()})
    frame["failure"] = repeated.where(repeated.notna(), frame["failure"])
    path = folder / FILES[1]
    with replacing(path) as temporary:
        frame.convert_dtypes().to_csv(temporary, index=False)
    return path


def importances(study: optuna.Study) -> dict[str, float]:
    """Importance of each key, the largest first; empty where too few trials, or equal ones, say nothing.

    fANOVA [1]_: the share of the variance of the metric, over the space, that a key explains on its own.

    .. [1] Hutter, Hoos, Leyton-Brown: An efficient approach for assessing hyperparameter importance. ICML 2014.
    """
    values = [trial.value for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])]
    if len(values) < _MIN_FOR_IMPORTANCE or len(set(values)) == 1:
        return {}
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))


def draw_importances(study: optuna.Study, metric: str, folder: Path) -> Path | None:
    """Draw a bar per key; None where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("agg")
    from optuna.visualization.matplotlib import plot_param_importances

    axes = plot_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), target_name=metric)
    axes.set_title(f"share of the variance of {metric}")
    figure: Any = axes.figure
    path = folder / FILES[2]
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight")
    return path
