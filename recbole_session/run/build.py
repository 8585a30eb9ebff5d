"""`build`: from keys to the parts of a run, in the one order that is right.

RecBole's transforms add keys that its BERT4Rec reads, so the loaders come before the model. The seed is set before the
data is read, again before the model is built, and again before training starts: what one of them draws does not move
the others.
"""

import traceback
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recbole.utils import init_seed

from recbole_session.converters import convert
from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import EvaluationLoader, TrainLoader, build_loaders
from recbole_session.distributed import on_first_process
from recbole_session.errors import InputError, shown
from recbole_session.evaluator.ranking_evaluator import RankingEvaluator
from recbole_session.run.checkpoint import State, check_fits, dataset_checksum, read_checkpoint
from recbole_session.run.folder import LAST_FILE, check_same_configuration


@dataclass
class Parts:
    """What a run is made of."""

    config: Any  # SessionConfig
    dataset: SessionDataset
    train: TrainLoader
    valid: EvaluationLoader
    test: EvaluationLoader
    evaluator: RankingEvaluator
    model: Any  # on the device, with its initial weights; None if only the data was asked for

    @cached_property
    def checksum(self) -> str:
        """Checksum of the dataset, see `checkpoint.dataset_checksum`."""
        return dataset_checksum(self.dataset)

    def saved_state(self, folder: Path) -> State | None:
        """Read and check ``last.pth``; None for a training that has not finished an epoch."""
        path = folder / LAST_FILE
        if not path.exists():
            return None
        state = read_checkpoint(path)
        check_fits(path, state, self)
        check_same_configuration(self.config.resolved, state["config"], path)
        return state


def build(config: Any, with_model: bool = True) -> Parts:
    """Build dataset, loaders, evaluator and, if asked for, the model.

    RecBole's transforms add keys to ``config``. Only the files of the bundled dataset are written. A mistake in a key
    or in the data is an `InputError`.
    """
    on_first_process(lambda: _convert_bundled_dataset(config))
    set_seed(config)
    dataset = SessionDataset(config)
    train, valid, test = build_loaders(config, dataset)
    evaluator = RankingEvaluator(config, dataset)
    model = fresh_model(config, train) if with_model else None
    return Parts(config, dataset, train, valid, test, evaluator, model)


def fresh_model(config: Any, train: TrainLoader) -> Any:
    """Build the model with its initial weights, on the device.

    RecBole's models raise exceptions of any kind, often without a message, for keys that do not fit together. They
    become an `InputError`.
    """
    set_seed(config)
    model_class = config["model_class"]
    try:
        model = model_class(config, train._dataset)
    except Exception as error:
        if not model_class.__module__.startswith("recbole.") or isinstance(error, MemoryError):
            raise
        line = traceback.extract_tb(error.__traceback__)[-1].line
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise InputError(
            f"{config['model']} cannot be built with these keys: {reason} at {shown(line)}; change the keys that it "
            "names, or leave them out"
        ) from error
    return model.to(config["device"])


def set_seed(config: Any) -> None:
    """Set every source of random numbers to the run's ``seed``."""
    init_seed(config["seed"], config["reproducibility"])


def _convert_bundled_dataset(config: Any) -> None:
    """Convert ml-100k on first use: it is part of the recbole package."""
    folder = Path(config["data_path"])
    if config["dataset"] == "ml-100k" and not (folder / "ml-100k.inter").is_file():
        convert("ml-100k", None, folder.parent)
