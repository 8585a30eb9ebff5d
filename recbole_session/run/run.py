"""`Run`: a run folder, read on demand; everything that opens a run opens it here."""

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from recbole_session.config.session_config import SessionConfig
from recbole_session.data.dataset import SessionDataset
from recbole_session.errors import InputError
from recbole_session.run.checkpoint import dataset_checksum
from recbole_session.run.folder import CONTEXT_FILE, CONTEXTS, RESULT_FILE, ranks_file, read_config
from recbole_session.run.loading import load_model, run_config
from recbole_session.run.ranks import check_metrics, read_ranks
from recbole_session.run.result import Result, read_contexts, read_result
from recbole_session.run.vocabulary import Vocabulary, read_vocabulary


class Run:
    """A run in its folder. Files are read, and checked, when they are first asked for.

    Parameters
    ----------
    folder : path
        What `run_session` returned as ``run_folder``.
    name : str, optional
        The row of a table that the run belongs to, e.g. ``SessionBERT4Rec [ST, SSE]``; runs that differ only in their
        seed share it. By default the name of the folder.
    model_class : type, optional
        The model's class, if it is neither this project's nor RecBole's.
    """

    def __init__(self, folder: str | Path, name: str | None = None, model_class: type | None = None) -> None:
        self.folder = Path(folder)
        self.name = self.folder.name if name is None else name
        self.model_class = model_class

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of ``config.yaml``: every key with the value that the run used."""
        return read_config(self.folder)

    @cached_property
    def result(self) -> Result:
        """The content of ``result.json``, see `result.build_result`."""
        return read_result(self.folder)

    @cached_property
    def contexts(self) -> Result:
        """The content of ``context.json``, see `audit.audit_run`; checked against the ranks beside it."""
        content = read_contexts(self.folder)
        told = CONTEXTS[0]
        check_metrics(self.folder / ranks_file(told), self.ranks(told), content[told], CONTEXT_FILE)
        return content

    @property
    def is_finished(self) -> bool:
        """Whether the run has a result."""
        return all((self.folder / name).is_file() for name in (RESULT_FILE, ranks_file("told")))

    @property
    def seed(self) -> int:
        """Seed of a finished run."""
        return int(self.result["seed"])

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Raw ids of items and users."""
        return read_vocabulary(self.folder)

    def ranks(self, context: str = "told") -> pd.DataFrame:
        """Ranks of the test split, a row per target, see `ranks.read_ranks`.

        ``context`` is what the model knew about the next interaction: ``told`` (``ranks.csv``) or, after the context
        audit, ``inferred`` or ``withheld`` (``ranks-<context>.csv``). The ranks must give the metrics that are written
        beside them, in ``result.json`` or ``context.json``.
        """
        path, is_told = self.folder / ranks_file(context), context == CONTEXTS[0]
        frame = read_ranks(path)
        metrics = self.result["test"] if is_told else self.contexts[context]
        check_metrics(path, frame, metrics, RESULT_FILE if is_told else CONTEXT_FILE)
        return frame

    def dataset(self, data_path: str | Path | None = None, may_differ: bool = False) -> SessionDataset:
        """Load and split the dataset of the run.

        ``data_path`` is the folder of the dataset's folder, by default the run's own. Unless the data ``may_differ``,
        its checksum must be that of ``result.json``.

        Raises
        ------
        InputError
            If the data is missing, damaged or different.
        """
        dataset = SessionDataset(run_config(self.config, self.model_class, data_path=data_path))
        dataset.build()
        if not may_differ:
            self.check_dataset(dataset)
        return dataset

    def check_dataset(self, dataset: SessionDataset) -> None:
        """Refuse a dataset that differs from the one that the finished run used."""
        if dataset_checksum(dataset) != self.result["dataset_checksum"]:
            raise InputError(
                f"{self.folder}: dataset {self.result['dataset']!r} has changed since this run; bring the old data "
                "back, or train again"
            )

    def model(self, device: str | torch.device = "cpu", refit: bool = False) -> tuple[nn.Module, SessionConfig]:
        """Build the model with the weights of the best epoch, and its configuration; see `loading.load_model`."""
        return load_model(self.folder, self.vocabulary, self.model_class, device, refit)
