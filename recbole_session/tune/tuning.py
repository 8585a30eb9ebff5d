"""A search with Optuna, on validation alone; in a file, so that it resumes and several processes share it."""

from __future__ import annotations

import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_session.compare.resolving import read_data
from recbole_session.compare.reuse import identity
from recbole_session.config.session_config import SessionConfig
from recbole_session.errors import InputError
from recbole_session.interrupts import Interrupted, signals_raise, signals_wait
from recbole_session.tune.search_space import Space, decode, describe, grid_of
from recbole_session.tune.trial import TrialResult, run_trial

if TYPE_CHECKING:
    import optuna

_SECONDS_TO_NAME = 60.0  # after which a trial that names no process has lost its own
_STARTUP_TRIALS = 5  # complete before any other is compared with them


@dataclass(frozen=True)
class Search:
    """What is searched, and on what.

    Attributes
    ----------
    dataset : str
    keys : Mapping
        Keys that all trials share, with ``model``.
    config : SessionConfig
        Of these keys.
    space : Space
    sampler : str
        ``tpe`` or ``grid``.
    """

    dataset: str
    keys: Mapping[str, Any]
    config: SessionConfig
    space: Space
    sampler: str

    @property
    def metric(self) -> str:
        """What is maximised, in words."""
        return f"{str(self.config['valid_metric']).lower()} ({Path(self.config['valid_candidates']).stem}, validation)"


def open_study(search: Search, storage: Path) -> optuna.Study:
    """Open the study in ``storage``, or begin one.

    Raises
    ------
    InputError
        If it was begun with another dataset, space or other keys, or the file cannot be used.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    values = {key: value for key, value in search.config.resolved.items() if key not in search.space}
    ours = {
        "dataset": read_data(search.config),
        "search space": json.dumps(describe(search.space), sort_keys=True),
        "sampler": search.sampler,
        "keys": identity(values, frozenset(search.config.internal_config_dict)),
    }
    bigger = search.config["valid_metric_bigger"]
    try:
        storage.parent.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(storage))),
            study_name="recbole-session",
            direction="maximize" if bigger else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS),
            load_if_exists=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"storage {storage} cannot be used: {error}") from error
    for name, value in ours.items():
        theirs = study.user_attrs.get(name)
        if theirs is None:
            study.set_user_attr(name, value)
        elif theirs != value:
            raise InputError(
                f"storage {storage} holds a study with another {name} ({_difference(theirs, value)}); "
                "bring it back, or name another file with --storage"
            )
    return study


def _difference(theirs: str, ours: str) -> str:
    """Say in a few words where two texts, of JSON or of digits, differ."""
    try:
        there, here = json.loads(theirs), json.loads(ours)
        key = next(key for key in sorted({*there, *here}) if there.get(key) != here.get(key))
    except (ValueError, AttributeError):
        return f"it was {theirs[:12]} and is {ours[:12]}"
    return f"{key} was {there.get(key)!r} and is {here.get(key)!r}"


def tune(
    study: optuna.Study,
    search: Search,
    n_trials: int,
    timeout: float | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Add trials until the study, with those of other processes, has ``n_trials``.

    Parameters
    ----------
    study : optuna.Study
        See `open_study`.
    search : Search
    n_trials : int
        Finished, pruned and failed ones, and those in progress, count; of a grid there are no more than it has.
    timeout : float, optional
        Seconds after which this process begins no further trial.
    tell : callable
        Takes a line of progress.

    Raises
    ------
    Interrupted
        At SIGINT or SIGTERM; the trial in progress is made anew when the study goes on.
    """
    grid = grid_of(search.space) if search.sampler == "grid" else None
    n_trials = min(n_trials, len(grid)) if grid is not None else n_trials
    put_back_lost_trials(study)
    start = time.monotonic()
    trial: optuna.Trial | None = None
    try:
        with signals_raise():
            while _is_room(study, n_trials) and (timeout is None or time.monotonic() - start < timeout):
                begin = time.monotonic()
                with signals_wait():
                    trial = study.ask()
                    keys = _suggest(trial, study, search, grid)
                line = f"trial {trial.number}: {_run(study, trial, search, keys)} in {time.monotonic() - begin:.0f} s"
                words = ", ".join(f"{key} {value}" for key, value in keys.items())
                with signals_wait():
                    tell(f"[{_n_counted(study)}/{n_trials}] {line}; {words}{_best_words(study)}")
    except BaseException as error:
        with signals_wait():
            if trial is not None:
                put_back(study, trial.number)
        if isinstance(error, Interrupted):
            message = f"{error}: finished trials are saved, the one in progress is made anew when the search goes on"
            raise Interrupted(message, error.number) from None
        raise


def _suggest(
    trial: optuna.Trial, study: optuna.Study, search: Search, grid: list[dict[str, Any]] | None
) -> dict[str, Any]:
    """Name this process in the trial, and return the keys that it is to try."""
    trial.set_user_attr("process", f"{socket.gethostname()}:{os.getpid()}")
    study.sampler = _sampler_of(trial, study, search, grid)
    return decode(search.space, {key: entry.suggest(trial, key) for key, entry in search.space.items()})


def _run(study: optuna.Study, trial: optuna.Trial, search: Search, keys: Mapping[str, Any]) -> str:
    """Run one trial, put its outcome into the study, and return the words for it."""
    import optuna
    from optuna.trial import TrialState

    def hook(epochs_run: int, score: float) -> None:
        with signals_wait():
            trial.report(score, epochs_run)
            hopeless = trial.should_prune()
        if hopeless:
            raise optuna.TrialPruned

    try:
        result: TrialResult = run_trial(search.dataset, {**search.keys, **keys}, hook)
    except optuna.TrialPruned:
        with signals_wait():
            study.tell(trial, state=TrialState.PRUNED)
        return f"pruned after {max(study.trials[trial.number].intermediate_values)} epochs"
    except InputError as error:
        with signals_wait():
            trial.set_user_attr("failure", str(error))
            study.tell(trial, state=TrialState.FAIL)
        return f"FAILED, {error}"
    with signals_wait():
        trial.set_user_attr("epoch", result.epoch)
        trial.set_user_attr("epochs_run", result.epochs_run)
        study.tell(trial, result.score)
    return f"{search.metric} {result.score:.4f}"


def _best_words(study: optuna.Study) -> str:
    best = best_trial(study)
    return "" if best is None else f"; best {best.value:.4f} of trial {best.number}"


def best_trial(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    """Return the best of the trials that ran to their end, the first of equals; None where there is none."""
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    return min(trials, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)


def _is_room(study: optuna.Study, n_trials: int) -> bool:
    with signals_wait():  # reading, too, changes what Optuna holds in memory
        return n_trials > _n_counted(study)


def _n_counted(study: optuna.Study) -> int:
    """Trials that count: all but those to be made anew, which are marked."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    return sum(trial.state != TrialState.WAITING and "made anew" not in trial.user_attrs for trial in trials)


def _sampler_of(
    trial: optuna.Trial, study: optuna.Study, search: Search, grid: list[dict[str, Any]] | None
) -> optuna.samplers.BaseSampler:
    """Sampler of one trial, seeded with its number: the same whoever goes on, and another in every process."""
    import optuna

    seed = search.config["seed"] + trial.number
    if grid is None:
        return optuna.samplers.TPESampler(n_startup_trials=2 * _STARTUP_TRIALS, seed=seed % 2**32)
    order = np.random.default_rng(search.config["seed"]).permutation(len(grid))
    combinations = [grid[place] for place in order]
    counted = [each for each in study.get_trials(deepcopy=False) if "made anew" not in each.user_attrs]
    # Counting without those made anew, a trial's place in the list is its place in the grid.
    place = sum(each.number < trial.number for each in counted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.PartialFixedSampler(combinations[place % len(grid)], optuna.samplers.RandomSampler())


def put_back(study: optuna.Study, number: int) -> None:
    """Mark a trial in progress as failed, and queue its parameters to be tried again."""
    from optuna.trial import TrialState

    trial = study.trials[number]
    if trial.state != TrialState.RUNNING:
        return
    study._storage.set_trial_user_attr(trial._trial_id, "made anew", True)
    study.tell(number, state=TrialState.FAIL)
    if trial.params:
        study.enqueue_trial(trial.params)


def put_back_lost_trials(study: optuna.Study) -> None:
    """Queue the trials in progress of processes of this machine that are gone."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=[TrialState.RUNNING]):
        host, _, process = str(trial.user_attrs.get("process", "")).rpartition(":")
        begun = trial.datetime_start.timestamp() if trial.datetime_start is not None else 0.0
        nameless = not process and time.time() - begun > _SECONDS_TO_NAME
        if nameless or (process and host == socket.gethostname() and not _is_alive(int(process))):
            put_back(study, trial.number)


def _is_alive(process: int) -> bool:
    """Whether another process has this number."""
    if process in (0, os.getpid()):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
