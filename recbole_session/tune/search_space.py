"""What is searched: keys with their choices or ranges, read from YAML and checked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_session.config.models import PROPERTIES
from recbole_session.config.rules import check_value, nearest
from recbole_session.config.session_config import SessionConfig, known_keys
from recbole_session.config.values import read_yaml_file
from recbole_session.errors import InputError

PAPER_SPACE = PROPERTIES / "search" / "paper.yaml"

# What says which numbers are compared, or where they come from.
_NOT_SEARCHED = {
    *("model", "dataset", "seed", "data_path", "checkpoint_dir", "config_files", "metrics", "topk", "valid_metric"),
    *("valid_candidates", "eval_candidates", "num_negatives", "negatives_seed", "eval_args", "eval_step"),
}
# Keys that matter with one of the session features only.
_FEATURE_OF = {"max_session_segments": "SSE", "temporal_dim": "TSA"}

Params = Mapping[str, Any]  # as Optuna stores them: choices that are lists or mappings are JSON texts


@dataclass(frozen=True)
class Choices:
    """One of some values."""

    values: tuple[Any, ...]

    def suggest(self, trial: Any, key: str) -> Any:
        """Let Optuna choose."""
        return trial.suggest_categorical(key, [encode(value) for value in self.values])


@dataclass(frozen=True)
class Range:
    """A number between two bounds, both included; whole where both are."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Any, key: str) -> Any:
        """Let Optuna choose."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(key, self.low, self.high, log=self.log)
        return trial.suggest_float(key, self.low, self.high, log=self.log)


Space = Mapping[str, Choices | Range]


def encode(value: Any) -> Any:
    """Return a choice as Optuna can store it."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def decode(space: Space, params: Params) -> dict[str, Any]:
    """Return the keys that Optuna's parameters stand for."""
    keys = dict(params)
    for key, entry in space.items():
        if isinstance(entry, Choices) and key in keys:
            keys[key] = next(value for value in entry.values if encode(value) == keys[key])
    return keys


def read_space(path: Path) -> Space:
    """Read a search space; an entry is a list of choices, or a mapping with low, high and, if wanted, log.

    ::

        hidden_size: [32, 64, 128]
        learning_rate: {low: 1.0e-4, high: 1.0e-2, log: True}

    Raises
    ------
    InputError
        Naming file and key.
    """
    values = read_yaml_file(path)
    if not values:
        raise InputError(f"{path} names no key to search; write e.g. 'hidden_size: [32, 64]'")
    return {key: _read_entry(f"{path}: {key}", entry) for key, entry in values.items()}


def _read_entry(where: str, entry: Any) -> Choices | Range:
    if isinstance(entry, list) and entry:
        texts = [json.dumps(value) for value in entry]
        if len(set(texts)) < len(texts):
            raise InputError(f"{where} has a choice twice: {entry!r}")
        return Choices(tuple(entry))
    if not isinstance(entry, dict) or not {"low", "high"} <= entry.keys() or not entry.keys() <= {"low", "high", "log"}:
        raise InputError(f"{where} is {entry!r}; allowed: a list of choices, or {{low: .., high: .., log: True}}")
    low, high, log = entry["low"], entry["high"], entry.get("log", False)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (low, high))
    if not numbers or not low < high or not isinstance(log, bool) or (log and low <= 0):
        raise InputError(f"{where} is {entry!r}; allowed: numbers low < high, and with log: True a low above 0")
    return Range(low, high, log)


def check_space(space: Space, source: str, config: SessionConfig, fixed: Mapping[str, Any]) -> Space:
    """Check a space against the model, and return it without the keys that change nothing for it.

    Parameters
    ----------
    space : Space
    source : str
        Named in messages.
    config : SessionConfig
        Of the model with the keys that are not searched.
    fixed : Mapping
        Keys of the command line.

    Raises
    ------
    InputError
        For a key that is no key, may not be searched, or is fixed on the command line; for a value out of its rule;
        if nothing is left to search.
    """
    defaults = config.internal_config_dict
    known = known_keys(defaults)
    kept: dict[str, Choices | Range] = {}
    for key, entry in space.items():
        if key in _NOT_SEARCHED:
            raise InputError(f"{source}: {key} cannot be searched: it decides on how or where trials are measured")
        if key in fixed:
            raise InputError(f"--{key} is given, but {source} searches it; leave one of the two out")
        if key not in known:
            if source != str(PAPER_SPACE):
                raise InputError(f"{source}: {config['model']} does not read {key!r}{nearest(key, known)}")
            continue
        for value in entry.values if isinstance(entry, Choices) else (entry.low, entry.high):
            check_value(key, value, defaults.get(key))
        feature = _FEATURE_OF.get(key)
        has_feature = "session_features" in space or feature is None or feature in (config["session_features"] or ())
        if has_feature:
            kept[key] = entry
    if not kept:
        raise InputError(f"{source} holds nothing that changes this {config['model']}; name a space with --search=FILE")
    return kept


def grid_of(space: Space) -> list[dict[str, Any]]:
    """Every combination of the choices, as Optuna's parameters.

    Raises
    ------
    InputError
        If there is a range among them.
    """
    for key, entry in space.items():
        if isinstance(entry, Range):
            raise InputError(f"{key} is a range, which has no grid; list its values, or search with --sampler=tpe")
    values = [[encode(value) for value in entry.values] for entry in space.values() if isinstance(entry, Choices)]
    return [dict(zip(space, combination, strict=True)) for combination in itertools.product(*values)]


def describe(space: Space) -> dict[str, Any]:
    """Return the space as plain data."""
    return {
        key: list(entry.values) if isinstance(entry, Choices) else [entry.low, entry.high, entry.log]
        for key, entry in space.items()
    }
