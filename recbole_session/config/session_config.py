"""`SessionConfig`: RecBole's Config with the plug-in's defaults, and with every key and value checked."""

import copy
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.utils import InputType, argument_list

from recbole_session.config import models
from recbole_session.config.rule_kinds import FIELD
from recbole_session.config.rules import NESTED_KEYS, check_combination, check_value
from recbole_session.config.values import check_size, deep_merge, dump_yaml, parse_command_line, plain, read_yaml_file
from recbole_session.errors import InputError, nearest, shown

# Keys that RecBole reads and that none of its property files lists.
_RECBOLE_EXTRA_KEYS = {"encoding", "tail_ratio", "numerical_features", "discretization"}


def known_keys(defaults: Mapping[str, Any]) -> set[str]:
    """Keys that a model with these defaults may be given."""
    known = {"model", "dataset", *_RECBOLE_EXTRA_KEYS, *defaults} - {"MODEL_TYPE"}
    known |= {*argument_list.general_arguments, *argument_list.training_arguments}
    return known | {*argument_list.evaluation_arguments, *argument_list.dataset_arguments}


class SessionConfig(Config):
    """RecBole's `Config`, extended in place: what it holds is read as ``config["key"]``.

    Precedence is RecBole's: its defaults < the plug-in's defaults < files, later over earlier <
    ``config_dict`` < command line. Values are YAML and are never evaluated as code.

    Parameters
    ----------
    model : str or type, optional
        Name of a model, or a model class; else key ``model``.
    dataset : str, optional
        Name of a dataset; else key ``dataset``.
    config_file_list : sequence of path, optional
        YAML files.
    config_dict : Mapping, optional
        Keys and values; left as they are.
    command_line : sequence of str
        Arguments of the form ``--key=value``; ``sys.argv`` is not read.

    Attributes
    ----------
    resolved : dict
        Every key that a user may set with the value in force, plain data; written to ``config.yaml``.
    unused_keys : list of str
        Keys that were given and that other models read, but not this one.

    Raises
    ------
    InputError
        For an unknown key, model, or value; one sentence.
    """

    internal_config_dict: dict[str, Any]

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str | Path] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        command_line: Sequence[str] = (),
    ) -> None:
        self.unused_keys: list[str] = []
        last = parse_command_line(command_line)
        more_files = last.pop("config_files", "")
        if not isinstance(more_files, str):
            raise InputError("--config_files must be paths separated by blanks")
        self._given: dict[str, Any] = {}
        for path in (*(config_file_list or ()), *more_files.split()):
            self._given = deep_merge(self._given, read_yaml_file(path))
        check_size(config_dict, "config_dict")
        self._given = deep_merge(deep_merge(self._given, plain(config_dict or {})), last)
        super().__init__(model, dataset)

    def _load_cmd_line(self) -> dict[str, Any]:
        """Return all that the user gave: RecBole would read ``sys.argv``, and merge no nested keys."""
        return self._given

    def _get_model_and_dataset(self, model: str | type | None, dataset: str | None) -> tuple[str, type, str]:
        model = model if model is not None else self.external_config_dict.get("model")
        dataset = dataset if dataset is not None else self.external_config_dict.get("dataset")
        if model is None:
            names = ", ".join(models.available_models())
            raise InputError(f"no model is named{self._near('model')}; give --model=NAME, e.g. one of {names}")
        model_class = models.find_model(model)
        if dataset is None:
            raise InputError(f"no dataset is named{self._near('dataset')}; give --dataset=NAME, e.g. --dataset=ml-100k")
        if not FIELD.allows(dataset) or Path(dataset).name != dataset or dataset == "..":
            raise InputError(f"dataset is {shown(dataset)}; allowed: the name of a folder in data_path, e.g. ml-100k")
        return model_class.__name__, model_class, dataset

    def _near(self, missing: str) -> str:
        """Words that name a given key which looks like the missing one, or nothing."""
        near = difflib.get_close_matches(missing, map(str, self.external_config_dict), n=1, cutoff=0.75)
        return f", and {shown(near[0])} is not a key" if near else ""

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        """Merge RecBole's files of defaults, in its order, and then the plug-in's."""
        del model
        self.internal_config_dict = {"MODEL_TYPE": getattr(model_class, "type", None)}
        for folder, name in ((models.RECBOLE_PROPERTIES, "sample"), (models.PROPERTIES, dataset)):
            of_model = models.defaults_files(model_class, folder)
            for file in (folder / "overall.yaml", *of_model, folder / "dataset" / f"{name}.yaml"):
                if file.is_file():
                    self.internal_config_dict = deep_merge(self.internal_config_dict, models.read_defaults(file))
        # Models that learn without negatives draw none; RecBole leaves it to the user to say so.
        loss_type = self.external_config_dict.get("loss_type", self.internal_config_dict.get("loss_type"))
        if getattr(model_class, "input_type", None) != InputType.PAIRWISE and loss_type != "BPR":
            self.internal_config_dict["train_neg_sample_args"] = None

    def _get_final_config_dict(self) -> dict[str, Any]:
        defaults = self.internal_config_dict
        self._check_keys(self.external_config_dict, defaults)
        used = {key: value for key, value in self.external_config_dict.items() if key not in self.unused_keys}
        values = deep_merge(defaults, used)
        negatives = values["train_neg_sample_args"]
        if defaults["train_neg_sample_args"] is None and negatives is not None:
            raise InputError(f"train_neg_sample_args is {shown(negatives)}, but {self.model} draws none; leave it out")
        values["model"], values["dataset"] = self.model, self.dataset
        values["metrics"] = [values["metrics"]] if isinstance(values["metrics"], str) else values["metrics"]
        check_combination(values)
        # Left out: what RecBole derives from other keys, and the GPU of this machine unless it was asked for.
        derived = {"MODEL_TYPE", "valid_metric_bigger"} | ({"gpu_id"} - set(self.external_config_dict))
        self.resolved = {key: copy.deepcopy(value) for key, value in values.items() if key not in derived}
        return values

    def _check_keys(self, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        """Check names and values of the user's keys, and of the keys within eval_args and the like."""
        known = known_keys(defaults)
        for key, value in given.items():
            if key not in known:
                known_elsewhere = models.keys_of_all_models()
                if not isinstance(key, str) or key not in known_elsewhere:
                    raise InputError(f"key {shown(key)} is unknown{nearest(key, known | known_elsewhere)}")
                # One file may serve several models.
                self.unused_keys.append(key)
            check_value(key, value, defaults.get(key))
            for inner in value if key in NESTED_KEYS and isinstance(value, Mapping) else ():
                if inner not in NESTED_KEYS[key]:
                    raise InputError(f"key {shown(f'{key}.{inner}')} is unknown{nearest(str(inner), NESTED_KEYS[key])}")
                check_value(f"{key}.{inner}", value[inner], None)

    def _set_default_parameters(self) -> None:
        data_path = self.final_config_dict["data_path"]
        super()._set_default_parameters()
        # RecBole replaces data_path for the name ml-100k; here it is a dataset like the others.
        self.final_config_dict["data_path"] = os.path.join(data_path, self.dataset)  # noqa: PTH118  RecBole wants str
        self.final_config_dict["model_class"] = self.model_class

    def _init_device(self) -> None:
        """Choose the device as RecBole does, but leave the environment alone and heed ``use_gpu``."""
        values = self.final_config_dict
        values["gpu_id"] = str(values["gpu_id"])
        if "gpu_id" in self.external_config_dict:
            os.environ["CUDA_VISIBLE_DEVICES"] = values["gpu_id"]
        use_gpu = values["use_gpu"] and values["gpu_id"] != "" and torch.cuda.is_available()
        values["device"] = torch.device("cuda" if use_gpu else "cpu")
        values["single_spec"] = True
        values["local_rank"] = 0

    def dump(self) -> str:
        """YAML text of `resolved`, which ``--config_files`` reads back to the same configuration."""
        return dump_yaml(self.resolved, sort_keys=True)
