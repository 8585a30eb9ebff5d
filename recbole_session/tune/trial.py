"""One trial of a search: training and validation, and nothing that knows the test split."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_session.config.session_config import SessionConfig
from recbole_session.errors import InputError
from recbole_session.interrupts import signals_noted
from recbole_session.run.build import build


@dataclass(frozen=True)
class TrialResult:
    """What a trial found on validation.

    Attributes
    ----------
    score : float
        Best value of ``valid_metric`` among ``valid_candidates``.
    epoch : int
        Its epoch, from 0.
    epochs_run : int
    """

    score: float
    epoch: int
    epochs_run: int


def run_trial(dataset: str, keys: Mapping[str, Any], hook: Callable[[int, float], None] | None = None) -> TrialResult:
    """Train as `run_session` does, to the same bits, and stop before the test split.

    Parameters
    ----------
    dataset : str
    keys : Mapping
        With ``model``.
    hook : callable, optional
        See `SessionTrainer.validation_hook`.

    Raises
    ------
    InputError
        As `run_session`; also if the dataset has no user to validate on.
    """
    config = SessionConfig(None, dataset, config_dict=keys)
    parts = build(config)
    if not parts.valid:
        raise InputError(f"dataset {dataset!r} has no user with four interactions, so there is nothing to tune on")
    with tempfile.TemporaryDirectory() as folder:
        trainer = parts.trainer(Path(folder))
        trainer.validation_hook = hook
        with signals_noted():
            trainer.fit(parts.train, parts.valid, show_progress=config["show_progress"] and sys.stderr.isatty())
    return TrialResult(float(trainer.best_valid_score), trainer.best_epoch, trainer.epochs_run)
