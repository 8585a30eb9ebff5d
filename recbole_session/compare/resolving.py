"""From a plan to configurations: every row is resolved and checked before anything is trained or written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recbole.utils.argument_list import dataset_arguments

from recbole_session.compare.plan import Plan, Row
from recbole_session.config.models import available_models, keys_of_all_models
from recbole_session.config.session_config import SessionConfig, known_keys
from recbole_session.config.values import deep_merge, plain
from recbole_session.errors import InputError, nearest
from recbole_session.run.build import build

# The rows of a table are ranks among the same candidates, measured alike.
_EQUAL_KEYS = ("eval_candidates", "num_negatives", "negatives_seed", "metrics", "topk", "checkpoint_dir")


@dataclass(frozen=True)
class ResolvedRow:
    """A row with all that a run needs.

    Attributes
    ----------
    name, model, dataset : str
    keys : Mapping
        What is given to `run_session`: shared and own keys, those that the model does not read left out.
    resolved : Mapping
        Every key in force, see `SessionConfig.resolved`; the seed is any.
    reads : frozenset of str
        Keys that have a default for this model.
    checksum : str
        Of the dataset as this row reads it.
    """

    name: str
    model: str
    dataset: str
    keys: Mapping[str, Any]
    resolved: Mapping[str, Any]
    reads: frozenset[str]
    checksum: str


def resolve(plan: Plan, dataset: str, shared: Mapping[str, Any], command_line: Mapping[str, Any]) -> list[ResolvedRow]:
    """Resolve and check every row, and read the data.

    Parameters
    ----------
    plan : Plan
    dataset : str
    shared : Mapping
        Keys of all rows, see `plan.shared_keys`; of the command line they hold what no row sets.
    command_line : Mapping
        Keys that win over the rows' own.

    Raises
    ------
    InputError
        For any mistake: in a key, between the keys of a row, or between rows; naming the row where it is one row's.
    """
    configs = {row.name: _config(row, dataset, shared, command_line) for row in plan.rows}
    _check_that_someone_reads(command_line, configs.values())
    first = configs[plan.rows[0].name]
    for row in plan.rows:
        for key in _EQUAL_KEYS:
            if configs[row.name].resolved[key] != first.resolved[key]:
                raise InputError(
                    f"{row.where}: {key} is {configs[row.name].resolved[key]!r}, and {first.resolved[key]!r} in run 1; "
                    "runs of one table must have it in common"
                )
    checksums: dict[str, str] = {}
    return [_resolved(row.name, dataset, configs[row.name], checksums) for row in plan.rows]


def overridden(row: Row, command_line: Mapping[str, Any]) -> Row:
    """Return the row with those of its own keys that the command line sets."""
    own = {key: value for key, value in command_line.items() if key in row.keys}
    return Row(row.name, deep_merge(row.keys, own), row.where)


def _config(row: Row, dataset: str, shared: Mapping[str, Any], command_line: Mapping[str, Any]) -> SessionConfig:
    """Build the configuration of a row, twice where keys have to be left out that its model does not read."""
    own = overridden(row, command_line).keys
    keys = deep_merge(shared, own)
    try:
        config = quiet_config(dataset, keys)
    except InputError as error:
        if keys["model"] in available_models():
            _raise_if_shared(dataset, {**shared, "model": keys["model"]}, str(error))
        raise InputError(f"{row.where}: {error}") from None
    for key in config.unused_keys:
        if key in row.keys:
            raise InputError(f"{row.where}: {key} is given, but {config['model']} does not read it; leave it out")
    if not config.unused_keys:
        return config
    return quiet_config(dataset, {key: value for key, value in keys.items() if key not in config.unused_keys})


def _raise_if_shared(dataset: str, keys: Mapping[str, Any], message: str) -> None:
    """Raise the same error without the row's own keys, if they are not what is wrong."""
    try:
        quiet_config(dataset, keys)
    except InputError as error:
        if str(error) == message:
            raise


def quiet_config(dataset: str, keys: Mapping[str, Any]) -> SessionConfig:
    """Build a configuration that leaves the choice of the GPU to the processes of the runs."""
    return SessionConfig(None, dataset, config_dict={key: value for key, value in keys.items() if key != "gpu_id"})


def _check_that_someone_reads(command_line: Mapping[str, Any], configs: Iterable[SessionConfig]) -> None:
    reads: set[str] = {"gpu_id"}
    for config in configs:
        reads |= known_keys(config.internal_config_dict)
    for key in command_line:
        if key not in reads:
            raise InputError(f"--{key} is given, but no model of this comparison reads it; leave it out")


def check_names(command_line: Mapping[str, Any], options: Sequence[str], dataset: str) -> None:
    """Refuse keys that neither a model nor the command knows, pointing to the nearest option or key.

    Parameters
    ----------
    command_line : Mapping
        The keys that were given.
    options : sequence of str
        Names of the command's own options.
    dataset : str
    """
    known = known_keys(SessionConfig("SessionBERT4Rec", dataset).internal_config_dict) | keys_of_all_models()
    for key in command_line:
        if key not in known:
            raise InputError(f"option --{key} is unknown{nearest(key, {*options, *known})}")


def _resolved(name: str, dataset: str, config: SessionConfig, checksums: dict[str, str]) -> ResolvedRow:
    data_keys = {*dataset_arguments, "data_path", "SESSION_ID_FIELD", "session_gap", "eval_candidates"}
    identity = repr([(key, config.resolved.get(key)) for key in sorted(data_keys)])
    if identity not in checksums:
        checksums[identity] = read_data(config)
    return ResolvedRow(
        name=name,
        model=config["model"],
        dataset=dataset,
        keys=plain(config.external_config_dict),
        resolved=plain(config.resolved),
        reads=frozenset(config.internal_config_dict),
        checksum=checksums[identity],
    )


def read_data(config: SessionConfig) -> str:
    """Read the dataset, check that it can be trained and evaluated on, and return its checksum."""
    return build(config, with_model=False).checksum
