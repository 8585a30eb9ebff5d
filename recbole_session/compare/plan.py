"""Which runs a comparison is made of: presets and YAML files, read and checked before anything is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from recbole_session.config.models import PROPERTIES
from recbole_session.config.rules import RULES
from recbole_session.config.values import deep_merge, parse_yaml, plain, read_yaml_file
from recbole_session.errors import InputError, nearest

FIRST_SEED = 2020  # RecBole's default `seed`
DEFAULT_SEEDS = 5

_PLAN_KEYS = ("runs", "baseline", "keys", "seeds", "sweep", "defaults_of")
# What all runs of a comparison have in common, or what the comparison decides on.
_NOT_IN_A_RUN = {
    "dataset": "give --dataset=NAME",
    "seed": "give seeds for all runs, at the top of the file or with --seeds",
    "checkpoint_dir": "give --checkpoint_dir=FOLDER",
    "config_files": "give --config_files=FILE",
}


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    name: str
    keys: Mapping[str, Any]  # what makes it differ from the other rows
    where: str  # where it is written, for messages: file and entry number


@dataclass(frozen=True)
class Plan:
    """What is to be compared."""

    name: str  # of the preset or the YAML file
    rows: tuple[Row, ...]
    baseline: str  # name of one of the rows
    keys: Mapping[str, Any]  # of all rows; a row's own win over them
    seeds: tuple[int, ...]
    defaults_of: str | None = None  # a model whose defaults all rows start from
    sweep: str | None = None  # key that is drawn on the x axis, for the rows that have it


def presets() -> dict[str, Path]:
    """Plans that come with the project, by name."""
    return {path.stem: path for path in sorted((PROPERTIES / "comparison").glob("*.yaml"))}


def read_preset(name: str) -> Plan:
    """Read a preset; an `InputError` if there is none of this name."""
    known = presets()
    if name not in known:
        hint = nearest(name, known) or f"; allowed: {', '.join(known)}"
        raise InputError(f"preset {name!r} is unknown{hint} (a plan of your own: --plan=FILE)")
    return read_plan(known[name])


def choose_plan(
    preset: str | None, file: Path | None, seeds: str | None, baseline: str | None, name: str | None
) -> Plan:
    """Read the preset or the file, with the seeds, baseline and name of the command line."""
    if (preset is None) == (file is None):
        raise InputError(f"give either --preset (one of {', '.join(presets())}) or --plan=FILE")
    plan = read_plan(file) if file else read_preset(preset or "")
    if seeds is not None:
        plan = replace(plan, seeds=parse_seeds(parse_yaml(seeds, "--seeds")))
    if baseline is not None:
        plan = replace(plan, baseline=check_baseline(baseline, [row.name for row in plan.rows]))
    if name is not None:
        if Path(name).name != name or name in ("", ".."):
            raise InputError(f"name is {name!r}; allowed: a name for a folder")
        plan = replace(plan, name=name)
    return plan


def read_plan(path: Path) -> Plan:
    """Read a plan from a YAML file.

    ::

        baseline: plain                       # name of a run; the first one where it is left out
        seeds: 3                              # or a list, [1, 7]
        defaults_of: SessionBERT4Rec          # every run starts from this model's defaults
        keys: {model: SessionBERT4Rec}        # of all runs; a run's own win
        sweep: hidden_size                    # draw lines over this key
        runs:
        - {name: plain, session_features: []}
        - {session_features: [ST], hidden_size: 32}

    Every mistake is an `InputError` that names file and entry.
    """
    values = read_yaml_file(path)
    for key in values:
        if key not in _PLAN_KEYS:
            hint = nearest(key, _PLAN_KEYS) or f"; allowed: {', '.join(_PLAN_KEYS)}"
            raise InputError(f"{path}: key {key!r} is unknown{hint} (keys of all runs go under keys)")
    keys = values.get("keys")
    if keys is not None and not isinstance(keys, dict):
        raise InputError(f"{path}: keys is {keys!r}; allowed: a mapping of keys that all runs share")
    keys = keys or {}
    _check_run_keys(keys, f"{path}: keys", ("dataset", "seed", "config_files"))
    rows = _read_rows(values.get("runs"), keys, path)
    names = [row.name for row in rows]
    try:
        baseline = check_baseline(values.get("baseline", names[0]), names)
        seeds = parse_seeds(values.get("seeds", DEFAULT_SEEDS))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    for key in ("sweep", "defaults_of"):
        if values.get(key) is not None and not isinstance(values[key], str):
            raise InputError(f"{path}: {key} is {values[key]!r}; allowed: one name")
    sweep = values.get("sweep")
    if sweep is not None:
        _check_sweep(sweep, rows, path)
    return Plan(path.stem, rows, baseline, keys, seeds, values.get("defaults_of"), sweep)


def _read_rows(runs: Any, keys: Mapping[str, Any], path: Path) -> tuple[Row, ...]:
    if not isinstance(runs, list) or not runs:
        found = "missing" if runs is None else repr(runs)
        raise InputError(f"{path}: runs is {found}; write a list of runs, each some keys, e.g. '- {{model: SASRec}}'")
    rows: list[Row] = []
    for number, entry in enumerate(runs, start=1):
        where = f"{path}, run {number}"
        if not isinstance(entry, dict):
            raise InputError(f"{where} is {entry!r}; allowed: some keys, e.g. {{model: SASRec, hidden_size: 32}}")
        name = entry.get("name")
        if name is not None and (not isinstance(name, str) or not name.strip()):
            raise InputError(f"{where}: name is {name!r}; allowed: a text")
        own = {key: value for key, value in entry.items() if key != "name"}
        _check_run_keys(own, where, _NOT_IN_A_RUN)
        if "model" not in {**keys, **own}:
            raise InputError(f"{where} names no model; give model: NAME in it, or under keys for all runs")
        name = name or default_name({**keys, **own}["model"], own)
        for other_number, other in enumerate(rows, start=1):
            if other.name == name:
                raise InputError(f"{where} is named {name!r}, as run {other_number} is; give it another name")
        rows.append(Row(name, own, where))
    return tuple(rows)


def _check_run_keys(keys: Mapping[Any, Any], where: str, refused: Sequence[str] | Mapping[str, str]) -> None:
    for key in keys:
        if key in refused:
            raise InputError(f"{where}: {key} cannot be given here; {_NOT_IN_A_RUN[key]}")


def default_name(model: Any, own: Mapping[str, Any]) -> str:
    """Name of a run that has none: the model, its session features, and its other keys."""
    name = str(model)
    if isinstance(own.get("session_features"), list):
        name += f" [{', '.join(map(str, own['session_features']))}]"
    others = {key: value for key, value in own.items() if key not in ("model", "session_features")}
    return ", ".join([name, *(f"{key} = {value}" for key, value in others.items())])


def check_baseline(name: Any, names: Sequence[str]) -> str:
    """Return ``name`` if it is one of ``names``."""
    if name not in names:
        hint = nearest(name, names) or f"; allowed: {', '.join(names)}"
        raise InputError(f"baseline is {name!r}, which is not a row of the comparison{hint}")
    return str(name)


def parse_seeds(value: Any) -> tuple[int, ...]:
    """Seeds from a number of seeds, which counts on from RecBole's default, or a list of them; else an `InputError`."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000:
        return tuple(range(FIRST_SEED, FIRST_SEED + value))
    rule = RULES["seed"]
    if isinstance(value, list) and value and all(map(rule.allows, value)) and len(set(value)) == len(value):
        return tuple(value)
    raise InputError(
        f"seeds is {value!r}; allowed: how many (5 stands for {FIRST_SEED} to {FIRST_SEED + 4}), or a list of "
        "different seeds, e.g. [1,7]"
    )


def _check_sweep(sweep: str, rows: Sequence[Row], path: Path) -> None:
    values = {row.where: row.keys[sweep] for row in rows if sweep in row.keys}
    if not values:
        raise InputError(f"{path}: sweep is {sweep!r}, which no run sets; name a key that the runs differ in")
    for where, value in values.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InputError(f"{where}: {sweep} is {value!r}; allowed in a sweep: a number")


def dump_plan(plan: Plan, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan as plain data, which `read_plan` takes; ``shared`` are the keys of all rows in force."""
    content = {"baseline": plan.baseline, "seeds": plan.seeds, **({"sweep": plan.sweep} if plan.sweep else {})}
    return plain(content | {"keys": shared, "runs": [{"name": row.name, **row.keys} for row in plan.rows]})


def defaults_of(model: str) -> dict[str, Any]:
    """Defaults of one of the project's own models; an `InputError` if it has none."""
    path = PROPERTIES / "model" / f"{model}.yaml"
    own = [file.stem for file in sorted(path.parent.glob("*.yaml"))]
    if model not in own:
        raise InputError(f"defaults_of is {model!r}{nearest(model, own)}; allowed: {', '.join(own)}")
    return read_yaml_file(path)


def shared_keys(plan: Plan, config_files: Sequence[str], command_line: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of all rows: the defaults that the plan names < files < the plan's keys < the command line."""
    defaults = defaults_of(plan.defaults_of) if plan.defaults_of else {}
    return reduce(deep_merge, (*map(read_yaml_file, config_files), plan.keys, command_line), defaults)
