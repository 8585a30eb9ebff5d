"""A search with Optuna, on validation alone; in a database, so that it resumes and several processes share it."""

import json
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.exc import SQLAlchemyError

from recbole_session.compare.runs import identity
from recbole_session.config.session_config import SessionConfig
from recbole_session.errors import InputError
from recbole_session.interrupts import Interrupted, signals_noted, stop_if_signalled
from recbole_session.live import live_table
from recbole_session.run.build import build
from recbole_session.run.trainer import SessionTrainer
from recbole_session.tune.output import COLUMNS, count_trials, describe_search, describe_trial
from recbole_session.tune.search_space import Search, grid_of, suggest

# A trial whose process gives no sign of life for so long is repeated.
HEARTBEAT_SECONDS, GRACE_SECONDS = 10, 60
_STARTUP_TRIALS = 5  # complete before any other is compared with them
_ERRORS = (ImportError, OSError, SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError, ValueError)

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # heartbeats, of Optuna 2.9
optuna.logging.set_verbosity(optuna.logging.ERROR)


def open_study(search: Search, storage: str) -> optuna.Study:
    """Open the study in ``storage``, a file or the URL of a database, or begin one.

    One that was begun with another dataset, space or other keys, or a storage that cannot be used, is an `InputError`.
    """
    values = {key: value for key, value in search.config.resolved.items() if key not in search.space}
    ours = {
        "dataset": build(search.config, with_model=False).checksum,
        "search space": json.dumps(search.space, sort_keys=True),
        "sampler": search.sampler,
        "keys": identity(values, search.config),
    }
    try:
        with _sole_opener(storage) as url:
            study = optuna.create_study(
                storage=RDBStorage(
                    url,
                    engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else None,
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                    heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
                ),
                study_name="recbole-session",
                direction="maximize" if search.config["valid_metric_bigger"] else "minimize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS),
                load_if_exists=True,
            )
            for name, value in ours.items():
                if name not in study.user_attrs:
                    study.set_user_attr(name, value)
    except _ERRORS as error:
        raise InputError(f"storage {storage} cannot be used: {_first_line(error)}") from error
    for name, value in ours.items():
        theirs = study.user_attrs[name]
        if theirs != value:
            raise InputError(
                f"storage {storage} holds a study with another {name} ({_difference(theirs, value)}); "
                "bring it back, or name another file with --storage"
            )
    return study


@contextmanager
def _sole_opener(storage: str) -> Iterator[str]:
    """Keep other processes from making the same tables while the block runs, and give the database's URL."""
    if "://" in storage:
        yield storage
        return
    path = Path(storage).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # which the system lifts when a process dies
        yield f"sqlite:///{path}"


def _first_line(error: Exception) -> str:
    """Say what a database complains about, in the driver's own words."""
    cause = error.__cause__ or error
    return str(getattr(cause, "orig", cause)).splitlines()[0]


def _difference(theirs: str, ours: str) -> str:
    """Say in a few words where two texts, of JSON or of digits, differ."""
    try:
        there, here = json.loads(theirs), json.loads(ours)
        key = next(key for key in sorted({*there, *here}) if there.get(key) != here.get(key))
    except (ValueError, AttributeError):
        return f"it was {theirs[:12]} and is {ours[:12]}"
    return f"{key} was {there.get(key)!r} and is {here.get(key)!r}"


def tune(study: optuna.Study, search: Search, n_trials: int, timeout: float | None = None) -> None:
    """Add trials until the study, with those of other processes, has ``n_trials``; standard output shows the progress.

    Finished, pruned and failed trials count, and those in progress; of a grid there are no more than it has. After
    ``timeout`` seconds this process begins no further trial. A storage that can no longer be written to is an
    `InputError`. SIGINT and SIGTERM raise `Interrupted`; the trial in progress is repeated when the search is resumed.
    """
    if search.sampler == "grid":
        grid = grid_of(search.space)
        n_trials = min(n_trials, math.prod(map(len, grid.values())))
        study.sampler = optuna.samplers.GridSampler(grid, seed=search.config["seed"])

    start = time.monotonic()
    try:
        # Noted, so that no transaction is broken off; the trainer looks between two batches.
        with signals_noted(), live_table(COLUMNS, lambda: describe_search(study, search, n_trials)) as tell:
            while _has_room(study, n_trials) and (timeout is None or time.monotonic() - start < timeout):
                study.optimize(
                    lambda trial: _run(study, trial, search),
                    n_trials=1,
                    catch=(InputError,),
                    callbacks=[lambda study, trial: tell(describe_trial(study, search, n_trials, trial))],
                )
    except Interrupted as signal:
        message = f"{signal}: finished trials are saved, the one in progress is repeated when the search is resumed"
        raise Interrupted(message, signal.number) from None
    except ValueError as error:
        if "Cannot tell" not in str(error):
            raise
        raise InputError(
            f"this process gave no sign of life for {GRACE_SECONDS} s, so its trial was left to others; "
            "start the same command again to take part in the search"
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise InputError(
            f"the study cannot be written to: {_first_line(error)}; finished trials are saved, so mend this and start "
            "the same command again"
        ) from error


def _run(study: optuna.Study, trial: optuna.Trial, search: Search) -> float:
    """Run one trial and return its score."""
    if search.sampler == "tpe":
        # Seeded with the number: the same search whoever resumes it, and another draw in every process.
        seed = (search.config["seed"] + trial.number) % 2**32
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=2 * _STARTUP_TRIALS, seed=seed)
    keys = suggest(trial, search.space)

    def hook(epochs_run: int, score: float) -> None:
        trial.report(score, epochs_run)
        if trial.should_prune():
            trial.set_user_attr("epochs_run", epochs_run)
            raise optuna.TrialPruned

    try:
        trainer = train({**search.config.external_config_dict, **keys}, hook)
    except InputError as error:
        trial.set_user_attr("failure", str(error))
        raise
    except Interrupted:
        RetryHeartbeatStaleTrialCallback()(study, study.trials[trial.number])
        raise
    trial.set_user_attr("epoch", trainer.best_epoch)
    trial.set_user_attr("epochs_run", trainer.epochs_run)
    return float(trainer.best_valid_score)


def _has_room(study: optuna.Study, n_trials: int) -> bool:
    """Whether another trial is wanted; waits where trials in progress may prove to be lost, and so wanted again."""
    end = time.monotonic() + GRACE_SECONDS + 2 * HEARTBEAT_SECONDS
    while True:
        optuna.storages.fail_stale_trials(study)
        n_ended, n_running = count_trials(study)
        if n_ended + n_running < n_trials:
            return True
        if n_ended >= n_trials or time.monotonic() > end:
            return False
        stop_if_signalled()
        time.sleep(1)


def train(keys: Mapping[str, Any], hook: Callable[[int, float], None] | None = None) -> SessionTrainer:
    """Train as `run_session` does, to the same bits, and stop before the test split.

    The keys name model and dataset. ``hook`` is the trainer's ``validation_hook``, and its ``best_valid_score`` is the
    best value of ``valid_metric`` among ``valid_candidates``. Beside the errors of `run_session` there is one for a
    dataset without a user to validate on.
    """
    config = SessionConfig(config_dict=keys)
    parts = build(config)
    if not parts.valid:
        raise InputError(
            f"dataset {config['dataset']!r} has no row to validate on under the split {config['eval_args']['split']}, "
            "so there is nothing to tune on; loosen the filters or change eval_args.split"
        )
    with tempfile.TemporaryDirectory() as folder:
        trainer = SessionTrainer(parts, Path(folder))
        trainer.validation_hook = hook
        with trainer.run_log:
            trainer.fit(parts.train, parts.valid)
    return trainer
