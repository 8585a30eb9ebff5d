"""Runs that exist already: finished ones to reuse, unfinished ones to resume."""

import json
import logging
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from recbole_session.compare.resolving import ResolvedRow
from recbole_session.config.models import keys_of_all_models
from recbole_session.config.rules import CANDIDATE_SETS
from recbole_session.config.values import plain
from recbole_session.errors import InputError
from recbole_session.run.checkpoint import read_checkpoint
from recbole_session.run.folder import FREE_KEYS, read_config
from recbole_session.run.run import Run

# Keys that may differ when a run is resumed, but that decide on its result.
_DECISIVE = {"epochs", "stopping_step", "train_time_limit"}
_OFF = ("refit", False)  # runs of before there was the key do not have it

Runs = Mapping[str, list[Path]]


def identity(values: Mapping[str, Any], reads: frozenset[str]) -> str:
    """Text that is equal for two configurations, of every key, that give the same numbers.

    Keys that only other models read do not count; ``reads`` are those of this one.
    """
    ignored = (FREE_KEYS - _DECISIVE) | (keys_of_all_models() - reads)
    decisive = {key: plain(value) for key, value in values.items() if key not in ignored and (key, value) != _OFF}
    return json.dumps(decisive, sort_keys=True, default=str)


def find_runs(parent: Path, rows: list[ResolvedRow]) -> Runs:
    """Run folders anywhere under ``parent``, by the `identity` of their configuration, the latest first.

    Runs of models that no row has are left out.
    """
    reads = {row.model: row.reads for row in rows}
    runs: dict[str, list[Path]] = {}
    files = sorted(parent.rglob("config.yaml"), key=lambda path: (path.stat().st_mtime_ns, str(path)), reverse=True)
    for file in files:
        try:
            values = read_config(file.parent)
        except InputError:  # not one of our runs
            continue
        if values["model"] in reads:
            runs.setdefault(identity(values, reads[values["model"]]), []).append(file.parent)
    return runs


def existing_run(row: ResolvedRow, seed: int, runs: Runs) -> Path | None:
    """Folder of a finished run of this row and seed on the same data, else of one that can be resumed, else None."""
    folders = runs.get(identity({**row.resolved, "seed": seed}, row.reads), [])
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
    files = [Path(entry) for entry in row.resolved["eval_candidates"] if entry not in CANDIDATE_SETS]
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
