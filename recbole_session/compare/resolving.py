"""From a plan to configurations: every row is resolved and checked before anything is trained or written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recbole.utils.argument_list import dataset_arguments

from recbole_session.compare.plan import Plan, Row
from recbole_session.config.models import available_models, keys_of_all_models
from recbole_session.config.session_config import SessionConfig, known_keys
from recbole_session.config.values import deep_merge
from recbole_session.errors import InputError, nearest
from recbole_session.run.build import build

# The rows of a table are ranks among the same candidates, measured alike.
_EQUAL_KEYS = ("eval_args", "eval_candidates", "num_negatives", "negatives_seed", "metrics", "topk", "checkpoint_dir")
# What decides on the rows and sessions of the data.
DATA_KEYS = sorted({*dataset_arguments, "data_path", "SESSION_ID_FIELD", "session_gap"} - {"MAX_ITEM_LIST_LENGTH"})


@dataclass(frozen=True)
class ResolvedRow:
    """A row with all that a run needs."""

    name: str
    config: SessionConfig  # of shared and own keys, those that the model does not read left out; the seed is any
    checksum: str  # of the dataset as this row reads it

    @property
    def keys(self) -> dict[str, Any]:
        """What `run_session` is given, except for the seed."""
        return self.config.external_config_dict


def resolve(plan: Plan, shared: Mapping[str, Any], command_line: Mapping[str, Any]) -> list[ResolvedRow]:
    """Resolve and check every row, and read the data.

    ``shared`` are the keys of all rows, see `plan.shared_keys`, and the dataset. The keys of the command line win over
    the rows' own. Any mistake, in a key, between the keys of a row or between rows, is an `InputError`, which names the
    row where it is one row's.
    """
    configs = {row.name: _config(row, shared, command_line) for row in plan.rows}
    known = {"gpu_id"}.union(*(known_keys(config.internal_config_dict) for config in configs.values()))
    for key in command_line:
        if key not in known:
            raise InputError(f"--{key} is given, but no model of this comparison reads it; leave it out")
    first = configs[plan.rows[0].name].resolved
    for row in plan.rows:
        _check_equal(row, configs[row.name].resolved, first, _EQUAL_KEYS)
    checksums: dict[str, str] = {}  # by the values of `DATA_KEYS`
    rows: list[ResolvedRow] = []
    for row in plan.rows:
        config = configs[row.name]
        data_keys = repr([(key, config.resolved.get(key)) for key in DATA_KEYS])
        # Reading it checks that it can be trained and evaluated on.
        checksum = checksums[data_keys] = checksums.get(data_keys) or build(config, with_model=False).checksum
        if rows and checksum != rows[0].checksum:
            _check_equal(row, config.resolved, first, DATA_KEYS)
        rows.append(ResolvedRow(row.name, config, checksum))
    return rows


def _check_equal(row: Row, values: Mapping[str, Any], first: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Refuse a row in which one of the keys has another value than in the first."""
    for key in keys:
        if (value := values.get(key)) != first.get(key):
            raise InputError(
                f"{row.where}: {key} is {value!r}, and {first.get(key)!r} in run 1; runs of one table must have it in "
                "common"
            )


def overridden(row: Row, command_line: Mapping[str, Any]) -> Row:
    """Return the row with those of its own keys that the command line sets."""
    own = {key: value for key, value in command_line.items() if key in row.keys}
    return Row(row.name, deep_merge(row.keys, own), row.where)


def _config(row: Row, shared: Mapping[str, Any], command_line: Mapping[str, Any]) -> SessionConfig:
    """Build the configuration of a row, twice where keys have to be left out that its model does not read."""
    keys = deep_merge(shared, overridden(row, command_line).keys)
    try:
        config = quiet_config(keys)
    except InputError as error:
        if keys["model"] in available_models():
            _raise_if_shared({**shared, "model": keys["model"]}, str(error))
        raise InputError(f"{row.where}: {error}") from None
    for key in config.unused_keys:
        if key in row.keys:
            raise InputError(f"{row.where}: {key} is given, but {config['model']} does not read it; leave it out")
    if not config.unused_keys:
        return config
    return quiet_config({key: value for key, value in keys.items() if key not in config.unused_keys})


def _raise_if_shared(keys: Mapping[str, Any], message: str) -> None:
    """Raise the same error without the row's own keys, if they are not what is wrong."""
    try:
        quiet_config(keys)
    except InputError as error:
        if str(error) == message:
            raise


def quiet_config(keys: Mapping[str, Any]) -> SessionConfig:
    """Build a configuration that leaves the choice of the GPU to the processes of the runs."""
    return SessionConfig(config_dict={key: value for key, value in keys.items() if key != "gpu_id"})


def check_names(command_line: Mapping[str, Any], options: Sequence[str], dataset: str) -> None:
    """Refuse keys that neither a model nor the command knows, pointing to the nearest of its ``options`` or key."""
    known = known_keys(SessionConfig("SessionBERT4Rec", dataset).internal_config_dict) | keys_of_all_models()
    for key in command_line:
        if key not in known:
            raise InputError(f"option --{key} is unknown{nearest(key, {*options, *known})}")
