"""`SessionTrainer`: RecBole's Trainer, with the evaluation, the checkpoints and the processes of this plug-in."""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from recbole.trainer import Trainer
from recbole.utils import calculate_valid_score
from torch import Tensor

from recbole_session.compat import recbole_logs_to
from recbole_session.distributed import mean_over_processes, process_count, process_rank
from recbole_session.errors import InputError
from recbole_session.evaluator.ranking_evaluator import SplitRanks
from recbole_session.interrupts import Interrupted, is_signalled, stop_if_signalled
from recbole_session.run import checkpoint
from recbole_session.run.build import Parts, set_seed
from recbole_session.run.checkpoint import PROGRESS, State, cpu_copy, load_weights, write_checkpoint
from recbole_session.run.folder import BEST_FILE, LAST_FILE
from recbole_session.run.loggers import RunLog, metric_names
from recbole_session.run.schema import damaged
from recbole_session.run.shared_loss import SharedLoss


class _TimeIsUp(Exception):
    """`train_time_limit` has passed."""


class SessionTrainer(Trainer):
    """RecBole's training loop over any of its sequential models and ours; a new trainer is about to start.

    ``run_folder`` takes the checkpoints ``best.pth`` and ``last.pth`` and the TensorBoard events. With ``refit_epochs``
    it trains that many, whatever ``epochs`` and ``train_time_limit`` say, and logs to no service.
    """

    best_valid_score: float
    epochs: int
    # Called after each validation with the number of epochs trained and the score; what it raises ends training.
    validation_hook: Callable[[int, float], None] | None = None
    # Called after each epoch of any trainer, before its validation.
    epoch_hook: ClassVar[Callable[["SessionTrainer"], None] | None] = None

    def __init__(self, parts: Parts, run_folder: Path, refit_epochs: int | None = None) -> None:
        config, model = parts.config, parts.model
        self.run_log = RunLog(config, run_folder if process_rank() == 0 and refit_epochs is None else None)
        with recbole_logs_to(self.run_log):
            super().__init__(config, model)
        self.epochs = self.epochs if refit_epochs is None else refit_epochs
        self.time_limit = config["train_time_limit"] if refit_epochs is None else None
        self.run_folder = run_folder
        self.saved_model_file = str(run_folder / BEST_FILE)
        self.ranking_evaluator = parts.evaluator
        self.best_epoch = -1  # of best.pth, from 0
        self.epochs_run = 0
        self.train_seconds = 0.0  # spent in training epochs, validation left out
        self.saved_epochs = 0  # trained when last.pth was written
        self.finished = False  # whether training has ended; `fit` then does nothing
        self._identity = {
            "model": type(model).__name__,
            "dataset": config["dataset"],
            "dataset_checksum": parts.checksum,
            "config": config.resolved,
        }
        self._best: State = {}
        self._unsaved: State | None = None
        self._last_write = time.monotonic()
        self._step = 0
        self._shared_loss = SharedLoss(model, self.device) if process_count() > 1 else None
        set_seed(config)

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        """RecBole's optimizer; Adam and AdamW update all weights in one fused pass over memory."""
        optimizer = super()._build_optimizer(**kwargs)
        if not isinstance(optimizer, torch.optim.Adam):  # which AdamW is one of
            return optimizer
        groups = [{**group, "fused": True} for group in optimizer.param_groups]
        return type(optimizer)(groups, fused=True)

    def fit(self, train_data: Any, valid_data: Any = None, **kwargs: Any) -> tuple[float, Any]:
        """Train as RecBole does, and stop before an epoch when ``train_time_limit`` has passed.

        However training ends, ``last.pth`` then holds the last epoch that was finished.
        """
        kwargs.setdefault("show_progress", self.config["show_progress"] and sys.stderr.isatty())
        if not self.finished:
            try:
                with naming_what_to_lower(self.config, ("train_batch_size", "MAX_ITEM_LIST_LENGTH"), "start a new run"):
                    try:
                        # Without an epoch left RecBole would save the last one as the best.
                        if self.start_epoch < self.epochs or not self._best:
                            super().fit(train_data, valid_data, **kwargs)
                    except _TimeIsUp:
                        self._end_early(valid_data)
            except (Exception, Interrupted):  # a second signal is neither, and stops at once
                self._write_last()
                raise
            self.finished = True
            self._unsaved = self._state(train_data)
            self._write_last()
        return self.best_valid_score, self.best_valid_result

    def _end_early(self, valid_data: Any) -> None:
        """Validate the epochs since the last validation."""
        self.logger.info(f"train_time_limit of {self.config['train_time_limit']} s reached")
        if valid_data and self.epochs_run % self.eval_step:
            score, result = self._valid_epoch(valid_data)
            if (score >= self.best_valid_score) == self.valid_metric_bigger:
                self.best_valid_score, self.best_valid_result = score, result
                self._save_checkpoint(self.epochs_run - 1)

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
        if self.epochs_run:
            # Only here in RecBole's loop are the validation and the counters of the previous epoch complete.
            self._unsaved = self._state(train_data)
            if time.monotonic() - self._last_write >= self.config["checkpoint_interval"]:
                self._write_last()
        if self.time_limit is not None:  # all processes stop at the same epoch, by the mean of their clocks
            seconds = torch.tensor(self.train_seconds, dtype=torch.float64, device=self.device)
            if mean_over_processes(seconds) >= self.time_limit:
                raise _TimeIsUp
        start = time.perf_counter()
        self._step = 0
        if self._shared_loss is not None:
            self._shared_loss.start_epoch(self.config["seed"], epoch_idx)
            kwargs["loss_func"] = self._shared_loss
        with autocast_to(self.device.type, getattr(torch, self.config["amp_dtype"].lower())):
            losses = super()._train_epoch(train_data, epoch_idx, *args, **kwargs)
        are_finite = torch.stack([torch.isfinite(parameter).all() for parameter in self.model.parameters()])
        if not are_finite.all():  # read once: on a GPU every read waits
            raise self._not_a_number("the weights are")
        self.train_seconds += time.perf_counter() - start
        self.epochs_run += 1
        means = mean_over_processes(torch.tensor(losses, dtype=torch.float64, device=self.device))
        self.run_log.log({"train/loss": float(means.sum())}, self.epochs_run)
        if (hook := type(self).epoch_hook) is not None:
            hook(self)
        return tuple(means.tolist()) if means.dim() else float(means)

    def _check_nan(self, loss: Tensor) -> None:
        """Stop at a loss that is not finite, or after a signal; RecBole calls this at every step."""
        self._step += 1
        value, stop = loss.item(), float(is_signalled())
        if process_count() > 1:  # all stop at the same batch
            value, stop = mean_over_processes(torch.tensor([value, stop], device=self.device)).tolist()
        if not math.isfinite(value):
            raise self._not_a_number("the training loss is")
        stop_if_signalled(bool(stop))

    def _not_a_number(self, what: str) -> InputError:
        best = f"{self.saved_model_file} keeps the best epoch, {self.best_epoch + 1}"
        kept = best if self._best else "nothing was saved"
        # config.rules.check_combination refuses enable_scaler with clip_grad_norm
        scaled = self.config["enable_scaler"]
        other = "use amp_dtype=bfloat16 without enable_scaler" if scaled else "set clip_grad_norm={max_norm: 1}"
        return InputError(
            f"{what} not finite after step {self._step} of epoch {self.epochs_run + 1}, training stopped; {kept}; "
            f"lower learning_rate ({self.config['learning_rate']}) or {other}, and start a new run"
        )

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> tuple[float, dict[str, float]]:
        """Score the model by ``valid_metric`` among ``valid_candidates``."""
        candidates = self.config["valid_candidates"]
        metrics = self._rank(valid_data, [candidates]).metrics[candidates]
        score = calculate_valid_score(metrics, self.valid_metric)
        values = ", ".join(f"{name} {value:.{self.config['metric_decimal_place']}f}" for name, value in metrics.items())
        self.logger.info(f"epoch {self.epochs_run} validation [{Path(candidates).stem}: {values}]")
        self.run_log.log(metric_names("valid", {candidates: metrics}), self.epochs_run)
        if self.validation_hook is not None:
            self.validation_hook(self.epochs_run, score)
        return score, metrics

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Keep the weights as the best ones, in memory and in ``best.pth``."""
        self.best_epoch = epoch
        self._best = cpu_copy(checkpoint.weights_of(self.model))
        self._write_best()

    def _write_best(self) -> None:
        if process_rank() == 0:
            score = float(self.best_valid_score)
            state = {**self._identity, "epoch": self.best_epoch, "best_valid_score": score, **self._best}
            write_checkpoint(Path(self.saved_model_file), cpu_copy(state))

    def _state(self, train_data: Any) -> State:
        """Copy all that the next epoch depends on."""
        state = {
            **self._identity,
            **{name: getattr(self, name) for name in PROGRESS},
            **checkpoint.weights_of(self.model),
            "optimizer": self.optimizer.state_dict(),
            "random": checkpoint.random_states(train_data, self.device),
        }
        return cpu_copy(state) | {"best": self._best}

    def _write_last(self) -> None:
        """Write the state of the last finished epoch, unless ``last.pth`` has it or the write has failed before."""
        state, self._unsaved = self._unsaved, None
        if state is None:
            return
        if process_rank() == 0:
            write_checkpoint(self.run_folder / LAST_FILE, state)
        self.saved_epochs = state["epochs_run"]
        self._last_write = time.monotonic()

    def resume_from(self, state: State, train_data: Any) -> None:
        """Resume from the content of a ``last.pth`` that passes `checkpoint.check_fits`; call it right before `fit`."""
        try:
            self.optimizer.load_state_dict(state["optimizer"])
            checkpoint.set_random_states(state["random"], train_data, self.device)
        except Exception as error:
            raise damaged(self.run_folder / LAST_FILE, f"{type(error).__name__}: {error}") from error
        for name in PROGRESS:
            setattr(self, name, state[name])
        if self.epochs_run > self.epochs:
            raise InputError(
                f"epochs is {self.epochs}, but the run to be resumed has trained {self.epochs_run}; "
                f"give --epochs={self.epochs_run} or more, or name the run with --resume={self.run_folder}"
            )
        self.start_epoch = self.saved_epochs = self.epochs_run
        self._best = state["best"]
        load_weights(state, self.model, self.device)
        if self._best:
            self._write_best()  # best.pth may be missing, or from an epoch after last.pth

    def evaluate(self, eval_data: Any) -> SplitRanks:
        """Rank the targets of a split in every candidate set, with the best epoch's weights."""
        load_weights(self._best, self.model, self.device)
        return self._rank(eval_data, list(self.ranking_evaluator.negatives))

    def _rank(self, eval_data: Any, candidate_sets: list[str]) -> SplitRanks:
        with naming_what_to_lower(self.config, ("eval_batch_size",), f"resume with --resume={self.run_folder}"):
            return self.ranking_evaluator.evaluate(self.model, _until_signalled(eval_data), self.device, candidate_sets)


def _until_signalled(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield batches until a signal comes; several processes exchange ranks at the end, so that each yields all."""
    for batch in batches:
        if process_count() == 1:
            stop_if_signalled()
        yield batch


@contextmanager
def autocast_to(device_type: str, dtype: torch.dtype) -> Iterator[None]:
    """Let RecBole's autocast (``enable_amp``) compute in ``dtype`` while the block runs; a GPU's default is float16."""
    before = torch.get_autocast_dtype(device_type)
    torch.set_autocast_dtype(device_type, dtype)
    try:
        yield
    finally:
        torch.set_autocast_dtype(device_type, before)


@contextmanager
def naming_what_to_lower(config: Mapping[str, Any], keys: tuple[str, ...], then: str) -> Iterator[None]:
    """Turn running out of memory within the block into an `InputError` that names ``keys`` and what to do then."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        texts = ("can't allocate memory", "out of memory", "ALLOC_FAILED")  # of torch, CUDA and its libraries
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in texts)):
            raise
        advice = " or ".join(f"{key} ({config[key]})" for key in keys)
        message = f"out of memory on {config['device']}; lower {advice} and {then}"
        if process_rank():
            logging.getLogger().error(message)  # the first process may never hear of it
        raise InputError(message) from error
