import logging
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from recbole_session.errors import InputError
from recbole_session.run import loggers
from recbole_session.run.loggers import RunLog
from recbole_session.run.trainer import SessionTrainer
from recbole_session.run.training import logging_to, run_session
from tests.conftest import TINY_MODEL, WriteDataset, random_rows

SETS = ("random", "popular", "all")


class Service:
    """Takes the calls that `_WeightsAndBiases` makes of wandb and `_MLflow` of MlflowClient, and remembers them."""

    def __init__(self) -> None:
        self.logged: list[tuple[str, float, int]] = []
        self.opened: list[dict[str, Any]] = []
        self.run: Service | None = None
        self.ended: object = None
        self.fails = False

    def init(self, **settings: Any) -> "Service":
        self.opened.append(settings)
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "epoch")

    def log(self, metrics: dict[str, float]) -> None:
        if self.fails:
            raise ConnectionError("no route to host")
        self.logged += [(name, value, int(metrics["epoch"])) for name, value in metrics.items() if name != "epoch"]

    def finish(self, exit_code: int) -> None:
        self.ended = exit_code

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(experiment_id="7") if self.opened else None

    def create_experiment(self, name: str) -> str:
        assert name == "films"
        return "7"

    def search_runs(self, experiments: list[str], query: str, max_results: int) -> list[SimpleNamespace]:
        runs = [run for run in self.opened if query == f"tags.run_folder = '{run['tags']['run_folder']}'"]
        return [SimpleNamespace(info=SimpleNamespace(run_id="first"))] if runs else []

    def update_run(self, run_id: str, status: str) -> None:
        self.ended = status

    def create_run(self, experiment: str, **settings: Any) -> SimpleNamespace:
        self.opened.append(settings)
        return SimpleNamespace(info=SimpleNamespace(run_id="first"))

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        assert run_id == "first" and len(params) <= 100
        self.logged += [(metric.name, metric.value, metric.step) for metric in metrics]
        self.opened[0].setdefault("config", {}).update((param.name, param.value) for param in params)

    def set_terminated(self, run_id: str, status: str) -> None:
        self.ended = status


def record(*names: str) -> Any:
    return lambda *values: SimpleNamespace(**dict(zip(names, values, strict=True)))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """Stand-ins for wandb and mlflow, which need not be installed."""
    service = Service()
    attributes: dict[str, dict[str, Any]] = {
        "wandb": {"init": service.init, "run": None},
        "mlflow": {},
        "mlflow.entities": {"Metric": record("name", "value", "time", "step"), "Param": record("name", "value")},
        "mlflow.tracking": {"MlflowClient": lambda: service},
    }
    for name, values in attributes.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    return service


@pytest.fixture
def keys(tmp_path: Path, write_dataset: WriteDataset) -> dict[str, Any]:
    write_dataset(random_rows())
    folders = {"data_path": str(tmp_path / "data"), "checkpoint_dir": str(tmp_path / "saved")}
    return {**TINY_MODEL, **folders, "num_negatives": 10, "epochs": 2, "eval_step": 1, "use_gpu": False}


def train(keys: dict[str, Any], **more: Any) -> Any:
    return run_session("SessionBERT4Rec", "toy", config_dict={**keys, **more})


def check_logged(service: Service, result: Any, at: str) -> None:
    """The numbers of a run of two epochs, each validated."""
    epochs: dict[str, list[int]] = {}
    for name, _, epoch in service.logged:
        epochs.setdefault(name, []).append(epoch)
    best = [result["best_epoch"] + 1]
    metrics = (f"recall{at}10", f"ndcg{at}10")
    assert epochs == {
        "train/loss": [1, 2],
        **{f"valid/random/{metric}": [1, 2] for metric in metrics},
        **{f"{split}/{name}/{metric}": best for split in ("best_valid", "test") for name in SETS for metric in metrics},
    }
    values = {name: value for name, value, _ in service.logged}
    for name in SETS:
        assert values[f"test/{name}/ndcg{at}10"] == result["test"][name]["ndcg@10"]
    assert values[f"best_valid/random/ndcg{at}10"] == result["valid"]["random"]["ndcg@10"]


def test_weights_and_biases_gets_every_candidate_set(service: Service, keys: dict[str, Any]) -> None:
    result = train(keys, log_wandb=True, wandb_project="films")
    folder = Path(result["run_folder"])
    (opened,) = service.opened
    assert (opened["project"], opened["name"], opened["id"]) == ("films", folder.name, f"toy-{folder.name}")
    assert opened["config"]["hidden_size"] == 8
    assert service.ended == 0
    check_logged(service, result, "@")


def test_mlflow_gets_every_candidate_set_and_a_resumed_run_is_found(service: Service, keys: dict[str, Any]) -> None:
    result = train(keys, log_mlflow=True, mlflow_experiment="films")
    folder = Path(result["run_folder"])
    assert service.opened[0]["run_name"] == folder.name
    assert service.opened[0]["config"]["hidden_size"] == "8"
    assert service.ended == "FINISHED"
    check_logged(service, result, "_at_")
    with RunLog({"log_wandb": False, "log_mlflow": True, "mlflow_experiment": "films"}, folder):
        assert service.ended == "RUNNING" and len(service.opened) == 1


def test_tensorboard_gets_them_too(keys: dict[str, Any]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(keys)
    events = EventAccumulator(f"{result['run_folder']}/tensorboard").Reload()
    for name in SETS:
        (event,) = events.Scalars(f"test/{name}/ndcg@10")
        assert event.step == result["best_epoch"] + 1
        assert event.value == pytest.approx(result["test"][name]["ndcg@10"])
    assert [event.step for event in events.Scalars("valid/random/ndcg@10")] == [1, 2]


def test_a_full_disk_costs_the_log_and_not_the_run(
    tmp_path: Path,
    full_disk: Callable[[int], None],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of TensorBoard, which writes in a thread, and of run.log."""
    services = {"log_wandb": False, "log_mlflow": False}
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)  # not pytest's
    full_disk(1000)
    with logging_to(tmp_path / "run.log", "INFO"), RunLog(services, tmp_path) as log:
        for epoch in range(1000):
            log.log({"train/loss": 1.0}, epoch)
    with logging_to(Path("/dev/full"), "INFO"):
        logging.getLogger().info("epoch 1")
    out, errors = capfd.readouterr()
    assert errors.splitlines() == [
        "TensorBoard is left out from here on: [Errno 27] File too large",
        "epoch 1",
        "/dev/full is left out from here on: [Errno 28] No space left on device",
    ]
    assert "Traceback" not in out + errors


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_missing_package_is_said_before_anything_is_written(
    package: str, keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "find_spec", {"wandb": None, "mlflow": None}.get)
    with pytest.raises(InputError, match=rf"^log_{package}: True needs {package}: pip install '.*\[{package}\]'$"):
        train(keys, **{f"log_{package}": True})
    assert not Path(keys["checkpoint_dir"]).exists()


def test_a_service_that_fails_costs_its_log_and_not_the_run(
    service: Service, keys: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    service.fails = True
    assert train(keys, log_wandb=True)["test"] == train(keys)["test"]
    assert caplog.text.count("Weights & Biases is left out from here on: no route to host") == 1


def test_a_run_that_fails_is_closed_as_failed(
    service: Service, keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise InputError("the loss is not finite")

    monkeypatch.setattr(SessionTrainer, "_check_nan", fail)
    with pytest.raises(InputError, match="not finite"):
        train(keys, log_wandb=True)
    assert service.ended == 1


def test_a_service_that_opens_no_run_is_named(
    service: Service, keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("no API key")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with pytest.raises(InputError, match="log_wandb is True, but Weights & Biases cannot open a run: no API key"):
        train(keys, log_wandb=True)
