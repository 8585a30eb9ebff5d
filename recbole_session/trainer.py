"""`SessionTrainer`: RecBole's Trainer, with the evaluation and the checkpoints of this plug-in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from recbole.trainer import Trainer
from recbole.utils import calculate_valid_score
from torch import nn

from recbole_session.compat import tensorboard_in
from recbole_session.evaluator.ranking_evaluator import RankingEvaluator, SplitRanks
from recbole_session.files import replacing


class _TimeIsUp(Exception):
    """`train_time_limit` has passed."""


class SessionTrainer(Trainer):
    """RecBole's training loop over any of its sequential models and ours.

    Parameters
    ----------
    config : SessionConfig
    model : nn.Module
    evaluator : RankingEvaluator
    run_folder : Path
        Takes the checkpoint ``best.pth`` and the TensorBoard events.

    Attributes
    ----------
    best_epoch : int
        Epoch of the checkpoint, from 0.
    epochs_run : int
        Epochs trained.
    train_seconds : float
        Time spent in training epochs, validation left out.
    """

    best_valid_score: float

    def __init__(self, config: Any, model: nn.Module, evaluator: RankingEvaluator, run_folder: Path) -> None:
        with tensorboard_in(run_folder / "tensorboard"):
            super().__init__(config, model)
        self.saved_model_file = str(run_folder / "best.pth")
        self.ranking_evaluator = evaluator
        self.best_epoch = -1
        self.epochs_run = 0
        self.train_seconds = 0.0

    def fit(self, train_data: Any, valid_data: Any = None, *args: Any, **kwargs: Any) -> tuple[float, Any]:
        """Train as RecBole does, and stop before an epoch when ``train_time_limit`` has passed."""
        try:
            super().fit(train_data, valid_data, *args, **kwargs)
        except _TimeIsUp:
            self.logger.info(f"train_time_limit of {self.config['train_time_limit']} s reached")
            if valid_data and self.epochs_run % self.eval_step:
                self._keep_if_best(valid_data)
        self.tensorboard.close()
        return self.best_valid_score, self.best_valid_result

    def _keep_if_best(self, valid_data: Any) -> None:
        """Validate the epochs trained since the last validation."""
        score, result = self._valid_epoch(valid_data)
        if (score >= self.best_valid_score) == self.valid_metric_bigger:
            self.best_valid_score, self.best_valid_result = score, result
            self._save_checkpoint(self.epochs_run - 1)

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
        limit = self.config["train_time_limit"]
        if limit is not None and self.train_seconds >= limit:
            raise _TimeIsUp
        start = time.perf_counter()
        losses = super()._train_epoch(train_data, epoch_idx, *args, **kwargs)
        self.train_seconds += time.perf_counter() - start
        self.epochs_run += 1
        return losses

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> tuple[float, dict[str, float]]:
        """Score the model by ``valid_metric`` among ``valid_candidates``."""
        candidates = self.config["valid_candidates"]
        split = self.ranking_evaluator.evaluate(self.model, valid_data, self.device, [candidates])
        metrics = split.metrics[candidates]
        return calculate_valid_score(metrics, self.valid_metric), metrics

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Write tensors and plain data only, so that torch's weights-only loader reads it back."""
        self.best_epoch = epoch
        state = {
            "epoch": epoch,
            "best_valid_score": float(self.best_valid_score),
            "config": self.config.resolved,
            "state_dict": self.model.state_dict(),
            "other_parameter": self.model.other_parameter(),
        }
        with replacing(Path(self.saved_model_file)) as temporary:
            torch.save(state, temporary)

    def load_best(self) -> None:
        """Put the weights of the best epoch back into the model."""
        state = torch.load(self.saved_model_file, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["state_dict"])
        self.model.load_other_parameter(state["other_parameter"])

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: None = None,
        show_progress: bool = False,
    ) -> SplitRanks:
        """Rank the targets of a split in every candidate set, with the best epoch's weights."""
        if load_best_model:
            self.load_best()
        candidate_sets = list(self.ranking_evaluator.negatives)
        return self.ranking_evaluator.evaluate(self.model, eval_data, self.device, candidate_sets)
