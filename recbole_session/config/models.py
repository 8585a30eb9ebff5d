"""The models by name, found by convention: a new one is a Python file and a YAML file, and nothing else."""

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path

import recbole
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_session.compat import import_recbole_models
from recbole_session.config.values import read_yaml_file
from recbole_session.errors import InputError, nearest, shown

PROPERTIES = Path(__file__).with_name("properties")
RECBOLE_PROPERTIES = Path(recbole.__file__).with_name("properties")

# RecBole's sequential models that do not work here, and why.
_UNSUPPORTED = {
    **dict.fromkeys(("DIEN", "DIN"), "it predicts a label for each interaction, and this plug-in ranks items"),
    **dict.fromkeys(("FDSA", "GRU4RecF", "SASRecF"), "it needs item features, which this plug-in does not load"),
    **dict.fromkeys(("GRU4RecKG", "KSR"), "it needs knowledge graph embeddings, which this plug-in does not load"),
    "FEARec": "it needs a second sequence with the same target for each sample, which this plug-in does not draw",
    "S3Rec": "it needs pretraining on item attributes, which this plug-in does not load",
}


def available_models() -> dict[str, type]:
    """Model classes by name: the plug-in's own, then RecBole's sequential models.

    A model of the plug-in is a class in a module of `recbole_session.model` with a file of defaults,
    ``properties/model/<class name>.yaml``.
    """
    models: dict[str, type] = {}
    package = importlib.import_module("recbole_session.model")
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for name, kind in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
            is_model = issubclass(kind, AbstractRecommender) and kind.__module__ == info.name
            if is_model and (PROPERTIES / "model" / f"{name}.yaml").is_file():
                models[name] = kind
    for name, kind in inspect.getmembers(import_recbole_models(), inspect.isclass):
        if kind.__module__.startswith("recbole.model.sequential_recommender.") and name not in _UNSUPPORTED:
            models.setdefault(name, kind)
    return models


def find_model(model: str | type) -> type:
    """Model class of a name, or a class of the user's own.

    An unknown name, a model of RecBole that is not supported, or a class that is not a model is an `InputError`.
    """
    if isinstance(model, type):
        if not issubclass(model, AbstractRecommender):
            raise InputError(f"model is {model!r}; allowed: a name, or a subclass of RecBole's SequentialRecommender")
        return model
    models, name = available_models(), model if isinstance(model, str) else ""
    if name in models:
        return models[name]
    recbole_models = [path.stem for path in (RECBOLE_PROPERTIES / "model").glob("*.yaml")]
    spelled = {other.casefold(): other for other in (*recbole_models, *_UNSUPPORTED, *models)}.get(name.casefold())
    if spelled is not None and spelled not in models:
        other = "it ignores the order of interactions, and this plug-in trains sequential models"
        raise InputError(f"model {spelled!r} of RecBole is not supported: {_UNSUPPORTED.get(spelled, other)}")
    hint = nearest(name, models) or f"; allowed: {', '.join(models)}"
    raise InputError(f"model {shown(model)} is unknown{hint}")


read_defaults = cache(read_yaml_file)  # keys of a file of defaults, which nobody changes


def defaults_files(model_class: type, folder: Path = PROPERTIES) -> list[Path]:
    """Files of defaults of a model and of the classes that it inherits from, its own last."""
    files = [folder / "model" / f"{kind.__name__}.yaml" for kind in reversed(model_class.__mro__)]
    return [file for file in files if file.is_file()]


def keys_of_all_models() -> set[str]:
    """Keys that at least one of the available models reads."""
    kinds, folders = available_models().values(), (RECBOLE_PROPERTIES, PROPERTIES)
    files = {file for kind in kinds for folder in folders for file in defaults_files(kind, folder)}
    return {key for file in files for key in read_defaults(file)}
