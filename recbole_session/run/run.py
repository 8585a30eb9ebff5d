"""`Run`: a run folder, read on demand; everything that opens a run opens it here."""

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from torch import nn

from recbole_session.config.models import available_models
from recbole_session.config.session_config import SessionConfig
from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import evaluation_transform
from recbole_session.errors import InputError
from recbole_session.run import folder as folders
from recbole_session.run.checkpoint import dataset_checksum, load_weights, misfit, read_checkpoint
from recbole_session.run.ranks import check_metrics, read_ranks
from recbole_session.run.result import Result
from recbole_session.run.schema import NUMBER, Fields, check_fields, check_metrics_by_set, read_json
from recbole_session.run.vocabulary import Vocabulary, read_vocabulary

# Where RecBole's models keep a vector per user: Caser, HGN, HRM, NPE, SHAN, TransRec; FOSSIL; FPMC.
_USER_TABLES = ("user_embedding", "user_lambda", "UI_emb")


_RESULT: Fields = {  # see `result.build_result`
    **dict.fromkeys(("model", "dataset", "dataset_checksum"), str),
    "session_features": (list, type(None)),
    **dict.fromkeys(("seed", "num_parameters", "num_users", "num_items", "best_epoch", "epochs_run"), int),
    **dict.fromkeys(("train_seconds", "eval_seconds"), NUMBER),
    **dict.fromkeys(("valid", "test", "environment"), dict),
}
_FACTS = ("targets", "told_new_session", "inferred_new_session", "inferred_right", "inferred_time_error")


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
        return folders.read_config(self.folder)

    @cached_property
    def result(self) -> Result:
        """The content of ``result.json``, see `result.build_result`; it is missing until a run is finished."""
        path = self.folder / folders.RESULT_FILE
        if not path.exists():
            raise InputError(f"{self.folder} holds no finished run: there is no {path.name}; name the folder of one")
        result: Result = read_json(path, _RESULT)
        check_metrics_by_set(path, result, "test")
        check_fields(path, result["environment"], {"device": str, "threads": int}, "environment.")
        return result

    @cached_property
    def contexts(self) -> Result:
        """The content of ``context.json``, see `audit.audit_run`; checked against the ranks beside it."""
        path, told = self.folder / folders.CONTEXT_FILE, folders.CONTEXTS[0]
        content: Result = read_json(path, {**dict.fromkeys(folders.CONTEXTS, dict), **dict.fromkeys(_FACTS, NUMBER)})
        check_metrics_by_set(path, content, *folders.CONTEXTS)
        check_metrics(self.folder / folders.ranks_file(told), self.ranks(told), content[told], folders.CONTEXT_FILE)
        return content

    @property
    def is_finished(self) -> bool:
        """Whether the run has a result and its ranks."""
        return all((self.folder / name).is_file() for name in (folders.RESULT_FILE, folders.ranks_file("told")))

    @property
    def seed(self) -> int:
        """Seed of a finished run."""
        return int(self.result["seed"])

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Raw ids of items and users."""
        return read_vocabulary(self.folder)

    def ranks(self, context: str = "told") -> pd.DataFrame:
        """Ranks of the test split, a row per target, see `ranks.read_ranks`, in one of `CONTEXTS`.

        They must give the metrics that are written beside them, in ``result.json`` or ``context.json``.
        """
        path, is_told = self.folder / folders.ranks_file(context), context == folders.CONTEXTS[0]
        frame = read_ranks(path)
        metrics = self.result["test"] if is_told else self.contexts[context]
        check_metrics(path, frame, metrics, folders.RESULT_FILE if is_told else folders.CONTEXT_FILE)
        return frame

    def dataset(self, data_path: str | Path | None = None, may_differ: bool = False) -> SessionDataset:
        """Load and split the dataset of the run; data that is missing, damaged or different is an `InputError`.

        ``data_path`` is the folder of the dataset's folder, by default the run's own. Unless the data ``may_differ``,
        its checksum must be that of ``result.json``.
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
        """Build the model with the weights of its best epoch, ready to answer, and its configuration; no data is read.

        With ``refit``, the model that the run trained on all rows is preferred, if it did (``refit: True``). A folder
        without a run, or with files that do not fit together, is an `InputError`.
        """
        vocabulary = self.vocabulary
        _check_device(device)
        refit_path = self.folder / folders.REFIT_FILE
        path = refit_path if refit and refit_path.is_file() else self.folder / folders.BEST_FILE
        if not path.is_file():
            raise InputError(f"there is no {path}; name the run folder of a trained model, e.g. saved/ml-1m/SASRec-...")
        state = read_checkpoint(path)
        config = run_config(state["config"], self.model_class, device)
        evaluation_transform(config)  # for the keys that it adds

        def build() -> Any:
            network = config["model_class"](config, _catalogue(config, vocabulary))
            if problem := misfit(state, network):
                raise InputError(
                    f"{self.folder}: {path.name} and vocabulary.json do not fit together ({problem}); are they of one "
                    "run?"
                )
            return network

        try:
            with suppress(NotImplementedError), torch.device("meta"):  # takes no memory; not every model can do this
                build()
            with torch.random.fork_rng(devices=[]):  # the initial weights that are drawn here are not used
                network = build().to(config["device"])
            load_weights(state, network, config["device"])
        except InputError:
            raise
        except Exception as error:  # a model's own, for keys that do not fit together
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"{path}: no {state['model']} can be made of it ({reason}); use another one") from error
        _give_new_users_the_mean(network, vocabulary.n_users)
        return network.eval(), config


def _catalogue(config: Any, vocabulary: Vocabulary) -> SimpleNamespace:
    """What RecBole's sequential models ask a dataset for when they are built: numbers of users and items."""
    n_users, n_items = vocabulary.n_users, vocabulary.n_items
    numbers = {config["USER_ID_FIELD"]: n_users, config["ITEM_ID_FIELD"]: n_items}
    lengths = {config["ITEM_ID_FIELD"] + config["LIST_SUFFIX"]: config["MAX_ITEM_LIST_LENGTH"]}
    return SimpleNamespace(user_num=n_users, item_num=n_items, num=numbers.__getitem__, field2seqlen=lengths)


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise InputError(f"device is {str(device)!r}, which torch cannot use here ({reason}); use cpu") from error


def run_config(
    values: Mapping[str, Any],
    model_class: type | None = None,
    device: str | torch.device = "cpu",
    data_path: str | Path | None = None,
) -> SessionConfig:
    """Return the configuration of a run, from ``values`` of its config.yaml or checkpoint; the rest as in `Run`."""
    if model_class is None and str(values.get("model")) not in available_models():
        raise InputError(
            f"model {values.get('model')!r} is neither this project's nor RecBole's; give its class, as in "
            "recbole_session.load(run_folder, model=MyModel)"
        )
    keys = {key: value for key, value in values.items() if key not in ("model", "dataset", "gpu_id")}
    keys["use_gpu"] = torch.device(device).type == "cuda"
    if "torch_compile" in keys:
        keys["torch_compile"] = False  # compiling takes longer than many answers
    if data_path is not None:
        keys["data_path"] = str(data_path)
    config = SessionConfig(model_class or values["model"], values.get("dataset"), config_dict=keys)
    config["device"] = torch.device(device)
    return config


def _give_new_users_the_mean(network: nn.Module, n_users: int) -> None:
    """Give user 0, which represents users never seen in training, the mean vector of the users.

    RecBole leaves row 0 at its random start where it is not a padding row.
    """
    for name in _USER_TABLES:
        table = getattr(network, name, None)
        if isinstance(table, nn.Embedding) and table.num_embeddings == n_users > 1 and table.padding_idx is None:
            with torch.no_grad():
                table.weight[0] = table.weight[1:].mean(0)
