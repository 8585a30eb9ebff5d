"""A plan carried out: runs that are missing are made, those that are there are reused, and a report is written."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recbole_session.compare.memory import check_memory
from recbole_session.compare.plan import Plan, dump_plan, shared_keys
from recbole_session.compare.processes import Outcome, run_jobs, threads_per_worker, visible_gpus
from recbole_session.compare.resolving import ResolvedRow, overridden, resolve
from recbole_session.compare.reuse import find_runs, finished_run, identity, unfinished_run
from recbole_session.compare.runs import Comparison, read_comparison
from recbole_session.compare.worker import run_one
from recbole_session.config.values import dump_yaml
from recbole_session.errors import InputError
from recbole_session.files import replacing
from recbole_session.interrupts import Interrupted, signals_raise
from recbole_session.run.audit import is_audited

Cell = tuple[str, int]  # name of a row, seed


@dataclass(frozen=True)
class Preparation:
    """A plan that was checked: nothing in it is missing or mistaken, and nothing was written.

    Attributes
    ----------
    plan : Plan
        With rows, seeds and baseline as the command line has them.
    shared : Mapping
        Keys of all rows.
    rows : list of ResolvedRow
    dataset : str
    """

    plan: Plan
    shared: Mapping[str, Any]
    rows: list[ResolvedRow]
    dataset: str

    @property
    def runs_folder(self) -> Path:
        """``<checkpoint_dir>/<dataset>``."""
        return Path(self.rows[0].resolved["checkpoint_dir"]) / self.dataset

    @property
    def folder(self) -> Path:
        """Takes the plan, the list of runs, and the report."""
        return self.runs_folder / f"comparison-{self.plan.name}"


@dataclass
class _State:
    """What is known of the cells of the table."""

    folders: dict[Cell, Path] = field(default_factory=dict)
    failures: dict[Cell, str] = field(default_factory=dict)


def prepare(plan: Plan, dataset: str, config_files: Sequence[str], command_line: Mapping[str, Any]) -> Preparation:
    """Resolve and check all that a comparison is made of.

    Raises
    ------
    InputError
        For any mistake, among them two rows that would be the same run.
    """
    shared = shared_keys(plan, config_files, command_line)
    rows = resolve(plan, dataset, shared, command_line)
    names: dict[str, str] = {}
    for row in rows:
        other = names.setdefault(identity(row.resolved, row.reads), row.name)
        if other != row.name:
            given = [key for key in command_line if any(key in each.keys for each in plan.rows)]
            hint = f"leave --{' and --'.join(given)} out" if given else "give each a key that differs"
            raise InputError(f"rows {other!r} and {row.name!r} are the same run; {hint}")
    plan = replace(plan, rows=tuple(overridden(row, command_line) for row in plan.rows))
    return Preparation(plan, shared, rows, dataset)


def compare(
    prepared: Preparation,
    n_workers: int = 1,
    audit: bool = True,
    tell: Callable[[str], None] = print,
    command: str = "",
) -> Comparison:
    """Make the runs that are missing, and read all of them back.

    Parameters
    ----------
    prepared : Preparation
    n_workers : int
        Runs at once.
    audit : bool
        Whether to evaluate every run without its context too.
    tell : callable
        Takes a line of progress.
    command : str
        What to type to go on after an interruption.

    Raises
    ------
    InputError
        If memory does not allow for ``n_workers``, or not one run succeeds.
    Interrupted
        At SIGINT or SIGTERM, after the runs in progress have saved.
    """
    state, jobs = _look_around(prepared, audit)
    tell(f"{len(prepared.rows)} rows, {len(prepared.plan.seeds)} seeds: {_summary(state, jobs)}")
    if min(n_workers, len(jobs)) > 1:
        check_memory(min(n_workers, len(jobs)), [(row.dataset, row.keys) for row in prepared.rows])
    write_plan(prepared)
    try:
        with signals_raise():
            _run(prepared, state, jobs, n_workers, tell)
    except Interrupted as signal:
        raise Interrupted(f"{signal}: what was computed is saved; go on with: {command}", signal.number) from None
    write_runs(prepared, state)
    if not state.folders:
        first, reason = next(iter(state.failures.items()))
        raise InputError(f"no run succeeded, so there is no table; the first, {_words(first)}, failed: {reason}")
    return read_comparison(prepared.folder)


def _look_around(prepared: Preparation, audit: bool) -> tuple[_State, dict[Cell, tuple[Any, ...]]]:
    """Find what is there already, and what is to be done: the arguments of `run_one` by cell."""
    state, jobs = _State(), {}
    runs = find_runs(prepared.runs_folder, prepared.rows)
    for seed in prepared.plan.seeds:
        for row in prepared.rows:
            folder = finished_run(row, seed, runs)
            if folder is not None:
                state.folders[row.name, seed] = folder
                if not audit or is_audited(folder):
                    continue
            folder = folder or unfinished_run(row, seed, runs)
            jobs[row.name, seed] = (row.dataset, {**row.keys, "seed": seed}, folder and str(folder), audit)
    return state, jobs


def _summary(state: _State, jobs: Mapping[Cell, tuple[Any, ...]]) -> str:
    audits = len(jobs.keys() & state.folders.keys())
    going_on = sum(job[2] is not None for job in jobs.values()) - audits
    n_runs = len(state.folders) + len(jobs) - audits
    parts = [f"{len(state.folders)} of {n_runs} runs are there already", f"{len(jobs) - audits} to be made"]
    parts[1] += f" ({going_on} begun)" if going_on else ""
    return ", ".join([*parts, f"the context of {audits} to be audited"] if audits else parts)


def _run(
    prepared: Preparation,
    state: _State,
    jobs: Mapping[Cell, tuple[Any, ...]],
    n_workers: int,
    tell: Callable[[str], None],
) -> None:
    cells, start = list(jobs), time.monotonic()
    log = prepared.folder / "failures.log"
    log.unlink(missing_ok=True)
    # Threads follow from the number of workers asked for, not of runs left: they decide on the last bits.
    threads, gpus = threads_per_worker(n_workers), visible_gpus(prepared.shared)
    with closing(run_jobs(run_one, list(jobs.values()), n_workers, threads, gpus)) as outcomes:
        for count, outcome in enumerate(outcomes, start=1):
            line = _note(prepared, state, cells[outcome.number], outcome, log)
            seconds_each = (time.monotonic() - start) / count
            tell(f"[{count}/{len(jobs)}] {line}{_left(len(jobs) - count, seconds_each)}")
            write_runs(prepared, state)


def _note(prepared: Preparation, state: _State, cell: Cell, outcome: Outcome, log: Path) -> str:
    """Put the outcome of a run in its cell, and return the words for it."""
    line = f"{_words(cell)}: "
    if outcome.failure is not None:
        _keep_log(log, cell, outcome)
        if cell in state.folders:
            return line + f"context audit FAILED, {outcome.failure}"
        state.failures[cell] = outcome.failure
        return line + f"FAILED, {outcome.failure}"
    folder, complaint = outcome.value
    state.folders[cell] = Path(folder)
    line += f"{_score(prepared.rows, cell, Path(folder))} in {outcome.seconds:.0f} s"
    return line + (f" (context audit FAILED, {complaint})" if complaint else "")


def _words(cell: Cell) -> str:
    return f"{cell[0]}, seed {cell[1]}"


def _score(rows: Sequence[ResolvedRow], cell: Cell, folder: Path) -> str:
    """Test value of the metric that chose the epoch."""
    (row,) = (row for row in rows if row.name == cell[0])
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    candidates, metric = Path(row.resolved["valid_candidates"]).stem, str(row.resolved["valid_metric"]).lower()
    return f"{metric} ({candidates}) {result['test'][candidates][metric]:.4f}"


def _left(n_jobs: int, seconds_each: float) -> str:
    if not n_jobs:
        return ""
    seconds = n_jobs * seconds_each
    text = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    return f"; {n_jobs} left, about {text if seconds < 6000 else f'{seconds / 3600:.1f} h'}"


def _keep_log(path: Path, cell: Cell, outcome: Outcome) -> None:
    """Append what a failed process wrote; a run's own log lies in its folder as well."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"==== {_words(cell)}: {outcome.failure}\n{outcome.log}\n")


def write_plan(prepared: Preparation) -> None:
    """Write comparison.yaml, which ``--plan`` reads back to the same comparison."""
    try:
        prepared.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"checkpoint_dir: cannot make {prepared.folder}: {error.strerror}") from error
    with replacing(prepared.folder / "comparison.yaml") as temporary:
        temporary.write_text(dump_yaml(dump_plan(prepared.plan, prepared.shared)), encoding="utf-8")


def write_runs(prepared: Preparation, state: _State) -> None:
    """Write runs.json: for each row and seed the run folder, relative to this file, or why there is none."""
    entries = []
    for row in prepared.rows:
        for seed in prepared.plan.seeds:
            cell = (row.name, seed)
            entry: dict[str, Any] = {"row": row.name, "seed": seed}
            if cell in state.folders:
                entry["folder"] = os.path.relpath(state.folders[cell], prepared.folder)
            elif cell in state.failures:
                entry["failure"] = state.failures[cell]
            else:
                entry["folder"] = None  # not made yet
            entries.append(entry)
    with replacing(prepared.folder / "runs.json") as temporary:
        temporary.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
