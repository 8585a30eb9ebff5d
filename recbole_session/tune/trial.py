"""One trial of a search: training and validation, and nothing that knows the test split."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole.utils import init_seed

from recbole_session.config.session_config import SessionConfig
from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import build_loaders
from recbole_session.errors import InputError
from recbole_session.evaluator.ranking_evaluator import RankingEvaluator
from recbole_session.run.checkpoint import dataset_checksum
from recbole_session.run.trainer import SessionTrainer


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
    init_seed(config["seed"], config["reproducibility"])
    data = SessionDataset(config)
    train_data, valid_data, _ = build_loaders(config, data)
    if not valid_data:
        raise InputError(f"dataset {dataset!r} has no user with four interactions, so there is nothing to tune on")
    evaluator = RankingEvaluator(config, data)
    init_seed(config["seed"], config["reproducibility"])
    network = config["model_class"](config, train_data._dataset).to(config["device"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = SessionTrainer(config, network, evaluator, Path(folder), dataset_checksum(data))
        trainer.validation_hook = hook
        init_seed(config["seed"], config["reproducibility"])
        trainer.fit(train_data, valid_data, show_progress=config["show_progress"] and sys.stderr.isatty())
    return TrialResult(float(trainer.best_valid_score), trainer.best_epoch, trainer.epochs_run)
