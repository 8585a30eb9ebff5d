"""What there is to see of a search: its trials in words, counted, and the best of them."""

from datetime import datetime
from statistics import mean

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from recbole_session.live import Rows, in_words
from recbole_session.tune.search_space import Search, decode

COLUMNS = ("trial", "now", "begun", "keys")


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
