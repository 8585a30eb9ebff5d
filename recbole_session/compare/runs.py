"""Runs that are there already: finished ones to reuse and to compare, unfinished ones to resume."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

from recbole_session.compare.plan import check_baseline, read_plan
from recbole_session.compare.resolving import ResolvedRow
from recbole_session.config.models import keys_of_all_models
from recbole_session.config.rules import CANDIDATE_SETS
from recbole_session.config.session_config import SessionConfig
from recbole_session.config.values import plain, read_yaml_file
from recbole_session.errors import InputError, shown
from recbole_session.run.checkpoint import read_checkpoint
from recbole_session.run.folder import FREE_KEYS, RESULT_FILE, read_config
from recbole_session.run.run import Run
from recbole_session.run.schema import read_json

_AGAIN = "run `recbole-session compare` again"
# Keys that may differ when a run is resumed, but that decide on its result.
_DECISIVE = {"epochs", "stopping_step", "train_time_limit"}
_OFF = ("refit", False)  # runs of before there was the key do not have it

Runs = Mapping[str, list[Path]]


@dataclass(frozen=True)
class Comparison:
    """Runs to be compared."""

    name: str  # of the preset or the YAML file
    dataset: str
    names: tuple[str, ...]  # rows of the table, in order
    baseline: str  # one of the names, against which the others are tested
    runs: tuple[Run, ...]
    failures: Mapping[tuple[str, int], str] = field(default_factory=dict)  # by name and seed: why it has no result
    sweep_key: str | None = None  # the key that is swept (Figure 2 of the paper), e.g. max_session_segments
    sweep_values: Mapping[str, float] = field(default_factory=dict)  # by row; others are drawn as horizontal lines
    settings: Mapping[str, Any] = field(default_factory=dict)  # the plan as it is written

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs, each once."""
        return sorted({run.seed for run in self.runs})

    def with_baseline(self, name: str) -> Self:
        """Return the comparison with another row as the baseline; an `InputError` if there is no such row."""
        return replace(self, baseline=check_baseline(name, self.names))

    def runs_of(self, name: str) -> list[Run]:
        """Runs of one row, by seed."""
        return sorted((run for run in self.runs if run.name == name), key=lambda run: run.seed)


def read_comparison(folder: Path) -> Comparison:
    """Read a comparison back from its folder, ``<checkpoint_dir>/<dataset>/comparison-<name>``.

    It has a ``comparison.yaml`` (the plan, see docs/compare.md) and a ``runs.json``: a list of mappings with ``row``,
    ``seed``, ``dataset_checksum``, and either ``folder`` (of the run, relative to this one; null before it is made) or
    ``failure``. A file that is missing or damaged, or a run on other data than the comparison's, is an `InputError`.
    """
    plan, path = read_plan(folder / "comparison.yaml"), folder / "runs.json"
    finished: list[Run] = []
    failures: dict[tuple[str, int], str] = {}
    names, sweep, cells = tuple(row.name for row in plan.rows), plan.sweep or "", set()
    for entry in read_json(path, {"row": str, "seed": int}, is_list=True):
        cell = entry["row"], entry["seed"]
        if cell in cells or cell[0] not in names:
            what = "is there twice" if cell in cells else "is not in comparison.yaml"
            raise InputError(f"{path} is damaged: row {shown(cell[0])}, seed {shown(cell[1])} {what}; {_AGAIN}")
        cells.add(cell)
        place = entry.get("folder")
        if not isinstance(place, str | None):
            raise InputError(f"{path} is damaged: folder is {shown(place)}; {_AGAIN}")
        if place and (folder / place / RESULT_FILE).is_file():
            finished.append(_read_run(folder / place, entry))
        elif "failure" in entry:
            failures[cell] = str(entry["failure"])
    return Comparison(
        name=folder.resolve().name.removeprefix("comparison-"),
        dataset=folder.resolve().parent.name,
        names=names,
        baseline=plan.baseline,
        runs=tuple(finished),
        failures=dict(sorted(failures.items())),
        sweep_key=plan.sweep,
        sweep_values={row.name: row.keys[sweep] for row in plan.rows if sweep in row.keys},
        settings=read_yaml_file(folder / "comparison.yaml"),
    )


def _read_run(folder: Path, entry: Mapping[str, Any]) -> Run:
    """Open a finished run, and refuse one that was made with other data or another seed than the comparison's."""
    run = Run(folder, entry["row"])
    for key in ("dataset_checksum", "seed"):
        found, expected = run.result[key], entry.get(key, run.result[key])
        if found != expected:
            raise InputError(
                f"{folder} was made with other data than the comparison ({key} is "
                f"{shown(str(found)[:12])}, and {shown(str(expected)[:12])} in runs.json); {_AGAIN}"
            )
    return run


# ---- before a comparison


def identity(values: Mapping[str, Any], config: SessionConfig) -> str:
    """Text that is equal for two configurations, of every key, that give the same numbers.

    Keys that only other models read do not count; ``config`` is one of the same model.
    """
    ignored = (FREE_KEYS - _DECISIVE) | (keys_of_all_models() - config.internal_config_dict.keys())
    decisive = {key: plain(value) for key, value in values.items() if key not in ignored and (key, value) != _OFF}
    return json.dumps(decisive, sort_keys=True, default=str)


def find_runs(parent: Path, rows: list[ResolvedRow]) -> Runs:
    """Run folders anywhere under ``parent``, by the `identity` of their configuration, the latest first.

    Runs of models that no row has are left out.
    """
    configs = {row.config["model"]: row.config for row in rows}
    runs: dict[str, list[Path]] = {}
    files = sorted(parent.rglob("config.yaml"), key=lambda path: (path.stat().st_mtime_ns, str(path)), reverse=True)
    for file in files:
        try:
            values = read_config(file.parent)
        except InputError:  # not one of our runs
            continue
        if config := configs.get(values["model"]):
            runs.setdefault(identity(values, config), []).append(file.parent)
    return runs


def existing_run(row: ResolvedRow, seed: int, runs: Runs) -> Path | None:
    """Folder of a finished run of this row and seed on the same data, else of one that can be resumed, else None."""
    folders = runs.get(identity({**row.config.resolved, "seed": seed}, row.config), [])
    finished = (folder for folder in folders if _is_current(row, folder))
    unfinished = (folder for folder in folders if _can_resume(row, folder))
    return next(chain(finished, unfinished), None)


def _is_current(row: ResolvedRow, folder: Path) -> bool:
    """Whether a run is finished, and dataset and files of candidates are the ones that it used."""
    try:
        run = Run(folder)
        is_same = run.is_finished and run.result["dataset_checksum"] == row.checksum
        written = (folder / "config.yaml").stat().st_mtime_ns
    except (OSError, InputError):
        return False
    files = [Path(entry) for entry in row.config["eval_candidates"] if entry not in CANDIDATE_SETS]
    return is_same and all(file.stat().st_mtime_ns < written for file in files)


def _can_resume(row: ResolvedRow, folder: Path) -> bool:
    """Whether a run is unfinished, and what it has trained so far, if anything, was on the same data."""
    last = folder / "last.pth"
    if (folder / "result.json").exists():
        return False
    try:
        return not last.exists() or read_checkpoint(last).get("dataset_checksum") == row.checksum
    except InputError as error:
        logging.getLogger(__name__).warning(f"not resumed: {error}")
        return False
