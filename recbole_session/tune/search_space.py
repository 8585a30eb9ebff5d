"""What is searched: keys with their choices or ranges, read from YAML and checked.

A space is what its file says: by key, a list of choices, or a mapping with ``low``, ``high`` and perhaps ``log``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from recbole_session.compare.resolving import DATA_KEYS
from recbole_session.config.models import PROPERTIES
from recbole_session.config.rules import check_value
from recbole_session.config.session_config import SessionConfig, known_keys
from recbole_session.config.values import deep_merge, read_yaml_file
from recbole_session.errors import InputError, nearest

PAPER_SPACE = PROPERTIES / "search" / "paper.yaml"

# Keys that say which numbers are compared, or where they come from: scores on other targets do not compare.
_NOT_SEARCHED = {
    *("model", "dataset", "seed", "checkpoint_dir", "config_files", "metrics", "topk", "valid_metric"),
    *("valid_candidates", "eval_candidates", "num_negatives", "negatives_seed", "eval_args", "eval_step"),
    *("refit", *DATA_KEYS),
} - {"session_gap"}  # which decides on the targets under SS alone
# Keys that matter with one of the session features only.
_FEATURE_OF = {"max_session_segments": "SSE", "temporal_dim": "TSA"}

Space = Mapping[str, Any]


@dataclass(frozen=True)
class Search:
    """What is searched, and on what."""

    config: SessionConfig  # of the keys that all trials share
    space: Space
    sampler: str  # tpe or grid

    @property
    def metric(self) -> str:
        """What is maximised, in words."""
        return f"{str(self.config['valid_metric']).lower()} ({Path(self.config['valid_candidates']).stem}, validation)"


def read_search(
    names: Mapping[str, str], config_files: Sequence[str], command_line: Mapping[str, Any], source: Path, sampler: str
) -> Search:
    """Read and check all that a search is made of: ``names`` of model and dataset, and the space in ``source``."""
    shared: dict[str, Any] = reduce(deep_merge, (*map(read_yaml_file, config_files), command_line), {})
    config = SessionConfig(config_dict={**shared, **names})
    for key in config.unused_keys:
        if key in command_line:
            raise InputError(f"--{key} is given, but {config['model']} does not read it; leave it out")
    space = check_space(read_space(source), str(source), config, command_line)
    if sampler == "grid":
        grid_of(space)
    return Search(config, space, sampler)


def encode(choices: list[Any]) -> dict[Any, Any]:
    """Choices by what Optuna stores for them: lists and mappings become JSON texts."""
    return {json.dumps(value) if isinstance(value, list | dict) else value: value for value in choices}


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    """Let an Optuna trial choose a value for every key; a range of whole numbers gives a whole number."""
    keys = {}
    for key, entry in space.items():
        if isinstance(entry, list):
            choices = encode(entry)
            keys[key] = choices[trial.suggest_categorical(key, list(choices))]
        else:
            is_whole = isinstance(entry["low"], int) and isinstance(entry["high"], int)
            draw = trial.suggest_int if is_whole else trial.suggest_float
            keys[key] = draw(key, entry["low"], entry["high"], log=entry.get("log", False))
    return keys


def decode(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that Optuna's parameters represent."""
    return {key: encode(space[key])[value] if isinstance(space[key], list) else value for key, value in params.items()}


def read_space(path: Path) -> Space:
    """Read a search space.

    ::

        hidden_size: [32, 64, 128]
        learning_rate: {low: 1.0e-4, high: 1.0e-2, log: True}
    """
    space = read_yaml_file(path)
    if not space:
        raise InputError(f"{path} names no key to search; write e.g. 'hidden_size: [32, 64]'")
    for key, entry in space.items():
        _check_entry(f"{path}: {key}", entry)
    return space


def _check_entry(where: str, entry: Any) -> None:
    if isinstance(entry, list) and entry:
        if len({json.dumps(value) for value in entry}) < len(entry):
            raise InputError(f"{where} has a choice twice: {entry!r}")
        return
    if not isinstance(entry, dict) or not {"low", "high"} <= entry.keys() or not entry.keys() <= {"low", "high", "log"}:
        raise InputError(f"{where} is {entry!r}; allowed: a list of choices, or {{low: .., high: .., log: True}}")
    low, high, log = entry["low"], entry["high"], entry.get("log", False)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (low, high))
    if not numbers or not low < high or not isinstance(log, bool) or (log and low <= 0):
        raise InputError(f"{where} is {entry!r}; allowed: numbers low < high, and with log: True a low above 0")


def check_space(space: Space, source: str, config: SessionConfig, fixed: Mapping[str, Any]) -> Space:
    """Check a space against the model, and return it without the keys that change nothing for it.

    Messages name ``source``. ``config`` is that of the model, with the keys that are not searched, and ``fixed`` are
    the keys of the command line. Refused are unknown keys, those that may not be searched or that the command line
    sets, values that their rule does not allow, and a space of which nothing is left.
    """
    defaults = config.internal_config_dict
    known = known_keys(defaults)
    kept = {}
    by_session = "SS" in config["eval_args"]["split"]
    for key, entry in space.items():
        if key in _NOT_SEARCHED or (key == "session_gap" and by_session):
            raise InputError(f"{source}: {key} cannot be searched: it decides on how or where trials are measured")
        if key in fixed:
            raise InputError(f"--{key} is given, but {source} searches it; leave one of the two out")
        if key not in known:
            if source != str(PAPER_SPACE):
                raise InputError(f"{source}: {config['model']} does not read {key!r}{nearest(key, known)}")
            continue
        for value in entry if isinstance(entry, list) else (entry["low"], entry["high"]):
            check_value(key, value, defaults.get(key))
        feature = _FEATURE_OF.get(key)
        if "session_features" in space or feature is None or feature in (config["session_features"] or ()):
            kept[key] = entry
    if not kept:
        raise InputError(f"{source} holds nothing that changes this {config['model']}; name a space with --search=FILE")
    return kept


def grid_of(space: Space) -> dict[str, list[Any]]:
    """Choices of every key, as Optuna stores them; an `InputError` if there is a range among them."""
    for key, entry in space.items():
        if not isinstance(entry, list):
            raise InputError(f"{key} is a range, which has no grid; list its values, or search with --sampler=tpe")
    return {key: list(encode(entry)) for key, entry in space.items()}
