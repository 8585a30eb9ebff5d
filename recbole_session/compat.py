"""RecBole 1.2.1 on current numpy, pandas and torch; the only module that patches anything.

Importing `recbole_session` applies `restore_numpy_names` and `hide_warnings`. Subclasses avoid what else RecBole 1.2.1
breaks on, because the plug-in needs its own behaviour there anyway:

================================================  ====================================================
RecBole line                                      mended in
================================================  ====================================================
``config/configurator.py`` 625-635                here: `restore_numpy_names`
``model/sequential_recommender/sine.py`` 25       here: `import_recbole_models`
``utils/utils.py`` 220, ``wandblogger.py``        here: `recbole_logs_to`
every line that warns of a deprecation            here: `hide_warnings`
``trainer/trainer.py`` 343, 475, 486, 509          here: `readable_line`
``data/dataset/dataset.py`` 632-656               `data.dataset.SessionDataset._fill_nan` (a no-op under
                                                  pandas' copy-on-write)
``trainer/trainer.py`` 323, 583                   `trainer.SessionTrainer` (``torch.load`` of a Config)
``general_recommender/pop.py`` 47                 `model.pop.Pop` (counts an item once a batch)
``quick_start/quick_start.py``                    never imported (needs ray<=2.6.3 and pkg_resources)
================================================  ====================================================
"""

import importlib
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from recbole_session.errors import InputError

RECBOLE_VERSION = "1.2.1"

# config/configurator.py 627-635 reads np.float_, np.complex_ and np.unicode_, gone since numpy 2.0, and sets
# the short names that evaluator/metrics.py (np.float, np.bool) and data/interaction.py (np.float) use.
# Can go when RecBole stops using them; on numpy 1.26 it changes nothing that RecBole itself does not.
_NUMPY_NAMES = {"float_": "float64", "complex_": "complex128", "unicode_": "str_", "float": "float64", "bool": "bool_"}


def restore_numpy_names() -> None:
    """Restore the numpy names that RecBole 1.2.1 uses and that this numpy no longer has."""
    for old, new in _NUMPY_NAMES.items():
        if old not in vars(np):
            setattr(np, old, getattr(np, new))


def hide_warnings() -> None:
    """Hide the warnings that numpy, pandas and torch give for lines of RecBole, which no user can change.

    RecBole 1.2.1 gives no warning of its own here. pyproject.toml has the same filter for the tests.
    """
    warnings.filterwarnings("ignore", module=r"recbole\.")


class RecBoleMissing(InputError, ImportError):
    """RecBole is not installed, or not in the version that this package works with."""


def require_recbole() -> None:
    """Say how to install RecBole where it is missing: pip cannot install it as a requirement, see setup.py."""
    try:
        from recbole import __version__ as found
    except ModuleNotFoundError:
        found = "none"
    if found != RECBOLE_VERSION:
        raise RecBoleMissing(
            f"recbole {RECBOLE_VERSION} is needed and {found} is installed; run: "
            f"pip install --no-deps recbole=={RECBOLE_VERSION}"
        )


def import_recbole_models() -> ModuleType:
    """Import RecBole's sequential models, and leave torch's anomaly detection as it was.

    ``model/sequential_recommender/sine.py`` 25 switches it on for the whole process, and the package imports
    that file with every model: each operation then stores a traceback, which slows training down and changes
    no number. Can go when that line does.
    """
    import torch

    was_on = torch.is_anomaly_enabled()
    models = importlib.import_module("recbole.model.sequential_recommender")
    torch.autograd.set_detect_anomaly(was_on)
    return models


def matmul_precision(on_cuda: bool) -> str:
    """Return the type to which torch rounds the factors of a float32 product: "tf32", "bf16", or another word for none.

    Before torch 2.9 there is one setting for all devices.
    """
    import torch

    backend = torch.backends.cuda if on_cuda else torch.backends.mkldnn
    try:
        return backend.matmul.fp32_precision
    except AttributeError:
        return {"high": "tf32", "medium": "bf16"}.get(torch.get_float32_matmul_precision(), "ieee")


@contextmanager
def recbole_logs_to(log: Any) -> Iterator[None]:
    """Give a Trainer that is built within the block ``log`` for its TensorBoard writer and its WandbLogger.

    ``utils/utils.py`` 220 always writes to ./log_tensorboard, and ``utils/wandblogger.py`` logs to Weights & Biases
    without epochs. ``trainer/trainer.py`` 115-116 calls both. Can go when RecBole accepts loggers.
    """
    import recbole.trainer.trainer as trainer

    originals = {name: getattr(trainer, name) for name in ("get_tensorboard", "WandbLogger")}
    for name in originals:
        setattr(trainer, name, lambda _: log)
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(trainer, name, original)


# What precedes or follows the numbers, colour codes left out.
_EPOCHS = re.compile(r"(?<=epoch )\d+(?= training)|(?<=best eval result in epoch )\d+")
_VALIDATION = re.compile(r"epoch \d+ evaluating|valid result")


def readable_line(record: logging.LogRecord) -> bool:
    """Count the epochs of a log record from 1, and stop RecBole's lines about a validation.

    ``trainer/trainer.py`` 343, 475 and 509 write epochs from 0. Lines 475 and 486 write three lines per validation, and
    `SessionTrainer` writes one. This filters the logger, not its handlers, each of which would add 1.
    """
    if _VALIDATION.search(str(record.msg)):
        return False
    record.msg = _EPOCHS.sub(lambda match: str(int(match[0]) + 1), str(record.msg))
    return True
