"""What a search shows: its trials in a terminal; the best of them, their table and the keys' importance in files."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import Any

import optuna
import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from recbole_session.config.values import dump_yaml
from recbole_session.files import replacing, write_text
from recbole_session.live import Rows, in_words
from recbole_session.tune.search_space import Search, decode

COLUMNS = ("trial", "now", "begun", "keys")  # of the live table
FILES = ("best.yaml", "trials.csv", "importance.png")
_MIN_FOR_IMPORTANCE = 4  # trials that ran to their end


def write_results(
    study: optuna.Study, search: Search, folder: Path, config_files: Sequence[str], given: Mapping[str, Any]
) -> None:
    """Write `FILES`, and say so; ``given`` are the keys of the command line."""
    best, trials, picture = (folder / name for name in FILES)
    write_text(trials, trials_csv(study, search))
    written = [trials]
    if (found := best_trial(study)) is not None:
        write_text(best, _best_yaml(study, search, found, [*config_files, str(best)], given))
        written.append(best)
    else:
        best.unlink(missing_ok=True)  # another study's
    if shares := importances(study):
        print(f"importance: {', '.join(f'{key} {share:.2f}' for key, share in shares.items())}")
        if draw_importances(study, search.metric, picture):
            written.append(picture)
        else:
            print('importance.png was left out; pip install "recbole-session[plot]" for it')
    print(f"{folder}: {', '.join(path.name for path in written)}")


def _best_yaml(
    study: optuna.Study, search: Search, best: FrozenTrial, config_files: Sequence[str], given: Mapping[str, Any]
) -> str:
    """Keys of the command line, and those that were found; ``config_files`` hold the others, and these at last."""
    keys = {name: search.config[name] for name in ("model", "dataset")} | {**given, **decode(search.space, best.params)}
    return (
        f"# {search.metric} {best.value:.6f}: the best of {len(study.trials)} trials, number {best.number}\n"
        f"# python run_recbole_session.py --config_files={shlex.quote(' '.join(config_files))}\n{dump_yaml(keys)}"
    )


def trials_csv(study: optuna.Study, search: Search) -> str:
    """Return a row per trial, with its state, its value on validation and its keys."""
    attributes = ["epoch", "epochs_run", "failure"]
    frame = study.trials_dataframe(attrs=("number", "state", "value", "user_attrs", "params"))
    frame.columns = pd.Index([name.removeprefix("user_attrs_").removeprefix("params_") for name in frame.columns])
    frame = frame.reindex(columns=["number", "state", "value", *attributes[:2], *search.space, attributes[2]])
    frame["state"] = frame["state"].str.lower()
    repeated = frame["number"].map({lost: f"repeated as trial {number}" for lost, number in repetitions(study).items()})
    frame["failure"] = repeated.where(repeated.notna(), frame["failure"])
    return frame.convert_dtypes().to_csv(index=False)


def importances(study: optuna.Study) -> dict[str, float]:
    """Importance of each key, the largest first; empty where too few trials, or equal ones, say nothing.

    fANOVA [1]_: the share of the variance of the metric, over the space, that a key explains on its own.

    .. [1] Hutter, Hoos, Leyton-Brown: An efficient approach for assessing hyperparameter importance. ICML 2014.
    """
    values = [trial.value for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])]
    if len(values) < _MIN_FOR_IMPORTANCE or len(set(values)) == 1:
        return {}
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))


def draw_importances(study: optuna.Study, metric: str, path: Path) -> bool:
    """Draw a bar per key; False where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("agg")
    from optuna.visualization.matplotlib import plot_param_importances

    axes = plot_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), target_name=metric)
    axes.set_title(f"share of the variance of {metric}")
    figure: Any = axes.figure
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight")
    return True


# ---- in a terminal


def describe_search(study: optuna.Study, search: Search, n_trials: int) -> tuple[Rows, str]:
    """Cells of the live table, a row per trial in progress here or in another process, and the line below it."""
    try:
        trials = study.get_trials(deepcopy=False)
        best = best_trial(study)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError):  # busy or full: the search itself will say so
        return [], ""
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    pick = max if study.direction == optuna.study.StudyDirection.MAXIMIZE else min
    cells, elapsed = [], 0.0
    for trial in running:
        values = trial.intermediate_values
        now = f"epoch {max(values)}, best {pick(values.values()):.4f}" if values else ""
        begun = (datetime.now() - trial.datetime_start).total_seconds() if trial.datetime_start else 0.0
        elapsed += begun
        cells.append((str(trial.number), now, f"{in_words(begun)} ago", _keys(search, trial)))
    durations = [trial.duration.total_seconds() for trial in trials if trial.duration is not None]
    n_left = n_trials - count_trials(study)[0]
    seconds = max(0.0, (mean(durations) * n_left - elapsed) / max(1, len(running))) if durations else 0.0
    left = f", about {in_words(seconds)} left" if durations and n_left else ""
    return cells, f"{n_trials - n_left} of {n_trials} trials made{_best(best)}{left}"


def describe_trial(study: optuna.Study, search: Search, n_trials: int, trial: FrozenTrial) -> str:
    """Say how a trial ended."""
    if trial.state == TrialState.COMPLETE:
        words = f"{search.metric} {trial.value:.4f}"
    elif trial.state == TrialState.PRUNED:
        words = f"pruned after {trial.user_attrs['epochs_run']} epochs"
    else:
        words = f"FAILED, {trial.user_attrs['failure']}"
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    return (
        f"[{sum(count_trials(study))}/{n_trials}] trial {trial.number}: {words} in {seconds:.0f} s; "
        f"{_keys(search, trial)}{_best(best_trial(study))}"
    )


def _keys(search: Search, trial: FrozenTrial) -> str:
    keys = decode(search.space, trial.params)
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in keys.items()
    )


def _best(best: FrozenTrial | None) -> str:
    return "" if best is None else f"; best {best.value:.4f} of trial {best.number}"


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the best of the trials that ran to their end, the first of equals; None where there is none."""
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    return min(trials, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)


def repetitions(study: optuna.Study) -> dict[int, int]:
    """Trials that were lost or interrupted, and the trials that repeat them, by number."""
    history = RetryHeartbeatStaleTrialCallback.retry_history
    return {lost: trial.number for trial in study.get_trials(deepcopy=False) for lost in history(trial)}


def count_trials(study: optuna.Study) -> tuple[int, int]:
    """Trials that have ended, without those that are repeated, and trials in progress."""
    repeated, trials = repetitions(study), study.get_trials(deepcopy=False)
    n_ended = sum(trial.state.is_finished() and trial.number not in repeated for trial in trials)
    return n_ended, sum(trial.state == TrialState.RUNNING for trial in trials)
