"""Load a trained model from its run folder, without the dataset."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from recbole_session.config.models import available_models
from recbole_session.config.session_config import SessionConfig
from recbole_session.data.loaders import evaluation_transform
from recbole_session.errors import InputError
from recbole_session.run.checkpoint import load_weights, misfit, read_checkpoint
from recbole_session.run.folder import BEST_FILE, REFIT_FILE
from recbole_session.run.vocabulary import Vocabulary

# Where RecBole's models keep a vector per user: Caser, HGN, HRM, NPE, SHAN, TransRec; FOSSIL; FPMC.
_USER_TABLES = ("user_embedding", "user_lambda", "UI_emb")


def load_model(
    run_folder: Path,
    vocabulary: Vocabulary,
    model_class: type | None = None,
    device: str | torch.device = "cpu",
    refit: bool = False,
) -> tuple[nn.Module, SessionConfig]:
    """Build the model of a run with the weights of its best epoch, ready to answer.

    The model's class is needed if it is neither this project's nor RecBole's. With ``refit``, the model that the run
    trained on all rows is preferred, if it did (``refit: True``).

    Raises
    ------
    InputError
        If the folder holds no run, or its files do not fit together.
    """
    _check_device(device)
    path = run_folder / (REFIT_FILE if refit and (run_folder / REFIT_FILE).is_file() else BEST_FILE)
    if not path.is_file():
        raise InputError(f"there is no {path}; name the run folder of a trained model, e.g. saved/ml-100k/SASRec-...")
    state = read_checkpoint(path)
    config = run_config(state["config"], model_class, device)
    evaluation_transform(config)  # for the keys that it adds
    catalogue = _catalogue(config, vocabulary)

    def build() -> Any:
        network = config["model_class"](config, catalogue)
        if problem := misfit(state, network):
            raise InputError(
                f"{run_folder}: {path.name} and vocabulary.json do not fit together ({problem}); are they of one run?"
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
    numbers = {config["USER_ID_FIELD"]: vocabulary.n_users, config["ITEM_ID_FIELD"]: vocabulary.n_items}
    lengths = {config["ITEM_ID_FIELD"] + config["LIST_SUFFIX"]: config["MAX_ITEM_LIST_LENGTH"]}
    return SimpleNamespace(
        user_num=vocabulary.n_users, item_num=vocabulary.n_items, num=numbers.__getitem__, field2seqlen=lengths
    )


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
    """Return the configuration of a run, from the ``values`` of ``config.yaml`` or of a checkpoint, on ``device``.

    ``model_class`` is as in `load_model`; ``data_path`` is the folder of the dataset's folder, by default the run's.
    """
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
