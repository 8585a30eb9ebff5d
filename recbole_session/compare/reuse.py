"""Runs that are there already: finished ones to be reused, unfinished ones to go on with."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_session.compare.resolving import ResolvedRow
from recbole_session.config.rules import CANDIDATE_SETS
from recbole_session.config.session_config import keys_of_all_models
from recbole_session.config.values import plain, read_yaml_file
from recbole_session.errors import InputError
from recbole_session.run.checkpoint import read_checkpoint
from recbole_session.run.folder import FREE_KEYS

# Keys that may differ when a run goes on, but that decide on its result.
_DECISIVE = {"epochs", "stopping_step", "train_time_limit"}

Runs = Mapping[str, list[Path]]


def identity(values: Mapping[str, Any], reads: frozenset[str]) -> str:
    """Text that is equal for two configurations that give the same numbers.

    Parameters
    ----------
    values : Mapping
        Every key of a run.
    reads : frozenset of str
        Keys that its model reads; keys of other models say nothing.
    """
    ignored = (FREE_KEYS - _DECISIVE) | (keys_of_all_models() - reads)
    decisive = {key: plain(value) for key, value in values.items() if key not in ignored}
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
            values = read_yaml_file(file)
        except InputError:  # no run of ours
            continue
        model = str(values.get("model"))
        if model in reads:
            runs.setdefault(identity(values, reads[model]), []).append(file.parent)
    return runs


def finished_run(row: ResolvedRow, seed: int, runs: Runs) -> Path | None:
    """Folder of a finished run of this row and seed on the same data, or None."""
    for folder in _same(row, seed, runs):
        if (folder / "result.json").is_file() and (folder / "ranks.csv").is_file() and _is_current(row, folder):
            return folder
    return None


def unfinished_run(row: ResolvedRow, seed: int, runs: Runs) -> Path | None:
    """Folder of an unfinished run of this row and seed that can go on, or None."""
    for folder in _same(row, seed, runs):
        last = folder / "last.pth"
        if not (folder / "result.json").exists() and (not last.exists() or _checksum_of(last) == row.checksum):
            return folder
    return None


def _same(row: ResolvedRow, seed: int, runs: Runs) -> list[Path]:
    return runs.get(identity({**row.resolved, "seed": seed}, row.reads), [])


def _is_current(row: ResolvedRow, folder: Path) -> bool:
    """Whether dataset and files of candidates are what the finished run in ``folder`` used."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    # Runs of an earlier version have it in the checkpoint alone.
    checksum = result.get("dataset_checksum") or _checksum_of(folder / "best.pth")
    written = (folder / "config.yaml").stat().st_mtime_ns
    files = [Path(entry) for entry in row.resolved["eval_candidates"] if entry not in CANDIDATE_SETS]
    return checksum == row.checksum and all(file.stat().st_mtime_ns < written for file in files)


def _checksum_of(checkpoint: Path) -> str | None:
    try:
        return read_checkpoint(checkpoint).get("dataset_checksum")
    except InputError as error:
        logging.getLogger(__name__).warning(f"not reused: {error}")
        return None
