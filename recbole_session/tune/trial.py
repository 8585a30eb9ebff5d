"""One trial of a search: training and validation, and nothing that knows the test split."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recbole_session.config.session_config import SessionConfig
from recbole_session.errors import InputError
from recbole_session.run.build import build
from recbole_session.run.trainer import SessionTrainer


def run_trial(
    dataset: str, keys: Mapping[str, Any], hook: Callable[[int, float], None] | None = None
) -> SessionTrainer:
    """Train as `run_session` does, to the same bits, and stop before the test split.

    Parameters
    ----------
    dataset : str
    keys : Mapping
        With ``model``.
    hook : callable
        See `SessionTrainer.validation_hook`.

    Returns
    -------
    SessionTrainer
        Its ``best_valid_score`` is the best value of ``valid_metric`` among ``valid_candidates``.

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
        trainer.fit(parts.train, parts.valid, show_progress=config["show_progress"] and sys.stderr.isatty())
    return trainer
