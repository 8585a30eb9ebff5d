"""Where the numbers of a run go while it trains: TensorBoard, and on request Weights & Biases and MLflow."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from recbole_session.errors import InputError, missing
from recbole_session.interrupts import Interrupted


def check_loggers(config: Any) -> None:
    """Refuse a logger whose package is missing."""
    for key in SERVICES:
        package = key.removeprefix("log_")
        if config[key] and find_spec(package) is None:
            raise missing(f"{key}: True", package, package)


def metric_names(split: str, by_candidates: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Name metrics as they are logged: ``<split>/<candidate set>/<metric>``."""
    return {f"{split}/{name}/{metric}": value for name, of in by_candidates.items() for metric, value in of.items()}


class RunLog:
    """Passes numbers on to TensorBoard and to every service that the keys ask for.

    RecBole's Trainer uses it as its TensorBoard writer and as its WandbLogger, see `compat.recbole_logs_to`. Without a
    run folder, as in all processes but the first, it drops everything. A service that opens no run is an `InputError`.
    """

    def __init__(self, config: Any, folder: Path | None) -> None:
        self._tensorboard: Any = None
        self._services: list[_WeightsAndBiases | _MLflow] = []
        if folder is None:
            return
        for key, service in SERVICES.items():
            if config[key]:
                try:
                    self._services.append(service(config, folder))
                except Exception as error:  # of the package, or of the network
                    raise InputError(f"{key} is True, but {service.NAME} cannot open a run: {error}") from error
        from torch.utils.tensorboard import SummaryWriter

        if threading.excepthook is threading.__excepthook__:
            threading.excepthook = _without_tensorboard
        with self._failing_alone():
            self._tensorboard = SummaryWriter(str(folder / "tensorboard"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After a second signal nothing is closed: what it interrupted may hang.
        if kind is None or issubclass(kind, (Exception, Interrupted)):
            self.close(failed=kind is not None)

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Log numbers, such as ``valid/random/ndcg@10``, as of ``epoch`` epochs trained.

        A service that fails is left out from then on, with a warning: it should not end the training.
        """
        for name, value in metrics.items():
            self.add_scalar(name, value, epoch)
        for service in self._services.copy():
            try:
                service.log(metrics, epoch)
            except Exception as error:
                logging.getLogger().warning(f"{service.NAME} is left out from here on: {error}")
                self._services.remove(service)

    def close(self, failed: bool = False) -> None:
        """Close all; a second call does nothing."""
        self._write("close")
        while self._services:
            service = self._services.pop()
            try:
                service.close(failed)
            except Exception as error:
                logging.getLogger().warning(f"{service.NAME} could not be closed: {error}")

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Write a number to TensorBoard alone; RecBole calls this with epochs counted from 0."""
        self._write("add_scalar", tag, value, step)

    def add_hparams(self, keys: dict[str, Any], metrics: dict[str, float]) -> None:
        """Write the keys of a run to TensorBoard alone; the services have them from the start."""
        self._write("add_hparams", keys, metrics)

    def _write(self, method: str, *arguments: Any) -> None:
        with self._failing_alone():
            if self._tensorboard is not None:
                getattr(self._tensorboard, method)(*arguments)

    @contextmanager
    def _failing_alone(self) -> Iterator[None]:
        """Leave TensorBoard out from then on if its disk is full within the block."""
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: of a file that an earlier error has closed
            logging.getLogger().warning(f"TensorBoard is left out from here on: {error}")
            self._tensorboard = None

    def log_metrics(self, metrics: object, head: str = "train") -> None:
        """Drop what RecBole would send to Weights & Biases: it does not say which epoch and which candidates."""


def _without_tensorboard(failure: threading.ExceptHookArgs) -> None:
    """Print how a thread failed, unless it is the one that writes for TensorBoard: `RunLog` hears of that itself."""
    if not type(failure.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(failure)


class _WeightsAndBiases:
    """A run of the project ``wandb_project``; a run that is resumed here is resumed there."""

    NAME = "Weights & Biases"

    def __init__(self, config: Any, folder: Path) -> None:
        import wandb

        self._is_ours = wandb.run is None  # not the user's, as in a sweep
        self._run = wandb.run or wandb.init(
            project=config["wandb_project"],
            id=f"{config['dataset']}-{folder.name}",
            name=folder.name,
            resume="allow",
            dir=str(folder),
            config=config.resolved,
        )
        self._run.define_metric("*", step_metric="epoch")

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:
        self._run.log({**metrics, "epoch": epoch})

    def close(self, failed: bool) -> None:
        if self._is_ours:
            self._run.finish(exit_code=int(failed))


class _MLflow:
    """A run of the experiment ``mlflow_experiment``, on the server that ``MLFLOW_TRACKING_URI`` names."""

    NAME = "MLflow"

    def __init__(self, config: Any, folder: Path) -> None:
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._metric, self._client = Metric, MlflowClient()
        name, place = config["mlflow_experiment"], str(folder.resolve())
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        earlier = self._client.search_runs([number], f"tags.run_folder = '{place}'", max_results=1)
        if earlier:  # the run is resumed
            self._id = earlier[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        self._id = self._client.create_run(number, run_name=folder.name, tags={"run_folder": place}).info.run_id
        keys = [Param(key, str(value)[:500]) for key, value in config.resolved.items()]
        for start in range(0, len(keys), 100):  # as many as a request may have
            self._client.log_batch(self._id, params=keys[start : start + 100])

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:
        now = int(time.time() * 1000)
        # MLflow allows no @ in a name; its own rankers write ndcg_at_10.
        entries = [self._metric(name.replace("@", "_at_"), value, now, epoch) for name, value in metrics.items()]
        self._client.log_batch(self._id, metrics=entries)

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


SERVICES: dict[str, type[_WeightsAndBiases] | type[_MLflow]] = {"log_wandb": _WeightsAndBiases, "log_mlflow": _MLflow}
