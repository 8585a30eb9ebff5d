"""What the speed benchmarks share: datasets, this project's and RecBole's own pipelines, clocks and memory."""

import ctypes
import gc
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from machine import synchronize
from recbole.config import Config
from recbole.data import data_preparation
from recbole.data.dataset import SequentialDataset
from recbole.trainer import Trainer
from recbole.utils import init_seed
from torch import Tensor

from recbole_session.compat import recbole_logs_to
from recbole_session.config.models import available_models
from recbole_session.config.session_config import SessionConfig
from recbole_session.converters import convert
from recbole_session.run.build import build
from recbole_session.run.loggers import RunLog
from recbole_session.run.trainer import SessionTrainer

ROOT = Path(__file__).resolve().parents[1]
SEED = 2020
DAY = 86_400

# ---- datasets


def prepare_dataset(name: str, folder: Path) -> Path:
    """Return the ``data_path`` of a dataset.

    ``ml-100k`` (inside the recbole package) and ``ml-1m-part`` (``$RECBOLE_SESSION_SHARED`` or ``../shared``) are
    converted into ``folder``; others are looked for in ``atomic_data``. The program ends with a sentence and exit code
    0 where ml-1m-part is not at hand.
    """
    if name == "ml-100k":
        convert("ml-100k", None, folder)
        return folder
    if name == "ml-1m-part":
        shared = Path(os.environ.get("RECBOLE_SESSION_SHARED", ROOT.parent / "shared"))
        raw = shared / "data" / "ml-1m-part" / "ratings.dat.gz"
        if not raw.is_file():
            print(f"skipped: there is no {raw}; name another dataset with --dataset")
            sys.exit(0)
        converted = convert("ml-1m", raw, folder)
        converted.rename(converted.with_name(f"{name}.inter"))
        converted.parent.rename(folder / name)
        return folder
    return ROOT / "atomic_data"


def generate_dataset(folder: Path, name: str, n_users: int, n_items: int, rows_per_user: int) -> Path:
    """Write a dataset in which every item occurs, if the rows suffice, and sessions hold about ten rows."""
    random = np.random.default_rng(SEED)
    n_rows = n_users * rows_per_user
    items = np.concatenate((np.arange(n_items), random.integers(0, n_items, max(n_rows - n_items, 0))))
    items = random.permutation(items)[:n_rows]
    shape = (n_users, rows_per_user)
    gaps = np.where(random.random(shape) < 0.1, 2 * DAY, random.integers(10, 600, shape))
    times = 900_000_000 + gaps.cumsum(axis=1)
    path = folder / name / f"{name}.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = (np.arange(n_users).repeat(rows_per_user), items, times.ravel())
    with path.open("w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        np.savetxt(file, np.stack(columns, axis=1), fmt="%d", delimiter="\t")
    return folder


@contextmanager
def working_folder() -> Iterator[Path]:
    """Temporary folder for datasets, run folders and whatever RecBole writes beside itself."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


# ---- pipelines


def build_ours(model: str, dataset: str, data_path: Path, folder: Path, *files: Path, **keys: Any) -> SimpleNamespace:
    """Return ``config data train valid test evaluator model trainer`` of a run of this project."""
    values = {"data_path": str(data_path), "checkpoint_dir": str(folder / "saved"), "checkpoint_interval": 1e9}
    config = SessionConfig(model, dataset, files, {**values, **keys})
    parts = build(config)
    trainer = SessionTrainer(parts, Path(tempfile.mkdtemp(dir=folder)))
    return SimpleNamespace(**vars(parts), data=parts.dataset, trainer=trainer)


class StockConfig(Config):
    """RecBole's own configuration, deaf to this program's command line and with ``data_path`` heeded."""

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}

    def _set_default_parameters(self) -> None:
        data_path = self.final_config_dict["data_path"]
        super()._set_default_parameters()
        self.final_config_dict["data_path"] = str(Path(data_path, self.dataset))


def build_stock(
    model: str, dataset: str, data_path: Path, folder: Path, mode: str = "full", **keys: Any
) -> SimpleNamespace:
    """Return ``config train test model trainer`` of RecBole alone: its dataset, loaders and Trainer.

    ``mode`` is RecBole's ``eval_args.mode``. Prefixes are augmented and stored as RecBole does it. Anomaly detection,
    which RecBole switches on when its sequential models are imported, is off: see `available_models`.
    """
    values = {
        "data_path": str(data_path),
        "checkpoint_dir": str(folder / "stock"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "normalize_all": False,
        "train_neg_sample_args": None,
        "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": mode},
        "repeatable": True,
        "metrics": ["Recall", "NDCG"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "show_progress": False,
        "use_gpu": torch.cuda.is_available(),
    }
    model_class = available_models()[model]
    config = StockConfig(model_class, dataset, config_dict={**values, **keys})
    init_seed(config["seed"], config["reproducibility"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # RecBole's ways with pandas 3; no value is missing in these files
        train, _, test = data_preparation(config, SequentialDataset(config))
    network = model_class(config, train._dataset).to(config["device"])
    with recbole_logs_to(RunLog(config, None)):
        trainer = Trainer(config, network)
    return SimpleNamespace(config=config, train=train, test=test, model=network, trainer=trainer)


def sequence_lengths(batch: Any) -> Tensor:
    """Tokens of each row of a batch of ours or of RecBole's, int64 ``[B]``."""
    return (batch["item_seq"] != 0).sum(1) if "item_seq" in batch else batch["item_length"]


# ---- clocks


class ClockedLoader:
    """Batches of a training loader, and the time that training with them takes.

    A step lasts from the request for its batch to the request for the next one: fetching, masking, forward and backward
    pass, optimiser. What happens between two epochs is not counted.

    Parameters
    ----------
    loader
        A training loader; it answers for everything but the batches.
    device
        Waited for at the end of a step.
    after_step : callable
        Called with the batch after every step while the clock stands still; may raise to end the training.
    batches : iterable, optional
        The batches to hand out in place of the loader's.
    now : callable, optional
        The clock, in seconds; real time without it.

    Attributes
    ----------
    seconds, steps
        So far.
    """

    def __init__(
        self,
        loader: Any,
        device: torch.device,
        after_step: Callable[[Any], None],
        batches: Iterable[Any] | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._loader, self._device, self._after_step = loader, device, after_step
        self._now = time.perf_counter if now is None else now
        self._batches = loader if batches is None else batches
        self.seconds, self.steps = 0.0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        start = self._now()
        for batch in self._batches:
            yield batch
            synchronize(self._device)
            self.seconds += self._now() - start
            self.steps += 1
            self._after_step(batch)
            start = self._now()


def full_batches(loader: Any) -> Iterator[Any]:
    """Batches without end, epoch after epoch, the smaller last one of an epoch left out."""
    while True:
        size = 0
        for batch in loader:
            size = max(size, len(batch))
            if len(batch) == size:
                yield batch


# ---- memory


@dataclass
class PeakMemory:
    """Largest memory that a block took beyond what was there before it, in bytes; None where it cannot be read."""

    bytes: float | None = None

    def __str__(self) -> str:
        return "?" if self.bytes is None else f"{self.bytes / 2**20:,.0f} MiB"


def _status(field: str) -> int | None:
    """Bytes of a field of /proc/self/status, which only Linux has."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measure a block: allocations on a GPU, resident memory of this process on a CPU (Linux)."""
    peak = PeakMemory()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the high-water mark
    resident = _status("VmRSS")
    yield peak
    highest = _status("VmHWM")
    peak.bytes = None if resident is None or highest is None else max(highest - resident, 0)


def median(values: Iterable[float]) -> float:
    """Median; not a number where there is nothing."""
    values = sorted(values)
    return float(np.median(values)) if values else math.nan


def describe(dataset: str, config: Mapping[str, Any], n_users: int, n_items: int) -> str:
    """One line about what is measured where."""
    device = torch.cuda.get_device_name() if config["device"].type == "cuda" else "CPU"
    return (
        f"{dataset}: {n_users:,} users, {n_items:,} items; d {config['hidden_size']}, layers {config['n_layers']}, "
        f"L {config['MAX_ITEM_LIST_LENGTH']}; {device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    )
