"""`build`: from keys to the parts of a run, in the one order that is right.

RecBole's transforms add keys that its BERT4Rec reads, so the loaders come before the model. The seed is set before the
data is read, again before the model is built, and again before training starts: what one of them draws does not move
the others.
"""

from __future__ import annotations

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
from recbole_session.run.checkpoint import dataset_checksum
from recbole_session.run.trainer import SessionTrainer


@dataclass
class Parts:
    """What a run is made of.

    Attributes
    ----------
    config : SessionConfig
    dataset : SessionDataset
    train, valid, test : loaders
        See `data.loaders.build_loaders`.
    evaluator : RankingEvaluator
    model : nn.Module
        On the device, with its initial weights; None if only the data was asked for.
    """

    config: Any
    dataset: SessionDataset
    train: TrainLoader
    valid: EvaluationLoader
    test: EvaluationLoader
    evaluator: RankingEvaluator
    model: Any

    @cached_property
    def checksum(self) -> str:
        """Checksum of the dataset, see `checkpoint.dataset_checksum`."""
        return dataset_checksum(self.dataset)

    def trainer(self, folder: Path) -> SessionTrainer:
        """Return a trainer that is about to start; it writes into ``folder``."""
        trainer = SessionTrainer(self.config, self.model, self.evaluator, folder, self.checksum)
        _set_seed(self.config)
        return trainer


def build(config: Any, with_model: bool = True) -> Parts:
    """Build dataset, loaders, evaluator and model; nothing but the bundled dataset's files is written.

    Parameters
    ----------
    config : SessionConfig
        RecBole's transforms add keys to it.
    with_model : bool
        Whether to build the model too.

    Raises
    ------
    InputError
        For a mistake in a key or in the data.
    """
    on_first_process(lambda: _convert_bundled_dataset(config))
    _set_seed(config)
    dataset = SessionDataset(config)
    train, valid, test = build_loaders(config, dataset)
    evaluator = RankingEvaluator(config, dataset)
    model = None
    if with_model:
        _set_seed(config)
        model = _build_model(config, train._dataset).to(config["device"])
    return Parts(config, dataset, train, valid, test, evaluator, model)


def _build_model(config: Any, dataset: SessionDataset) -> Any:
    """Build the model; one of RecBole's says by any exception, often without words, that keys do not go together."""
    model_class = config["model_class"]
    try:
        return model_class(config, dataset)
    except Exception as error:
        if not model_class.__module__.startswith("recbole.") or isinstance(error, MemoryError):
            raise
        line = traceback.extract_tb(error.__traceback__)[-1].line
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise InputError(
            f"{config['model']} cannot be built with these keys: {reason} at {shown(line)}; change the keys that it "
            "names, or leave them out"
        ) from error


def _set_seed(config: Any) -> None:
    init_seed(config["seed"], config["reproducibility"])


def _convert_bundled_dataset(config: Any) -> None:
    """Convert ml-100k on first use: it lies inside the recbole package."""
    folder = Path(config["data_path"])
    if config["dataset"] == "ml-100k" and not (folder / "ml-100k.inter").is_file():
        convert("ml-100k", None, folder.parent)
