"""A plan carried out: finished runs are reused, the others are made, and all are read back."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recbole_session.compare.memory import check_memory
from recbole_session.compare.plan import Plan, dump_plan, shared_keys
from recbole_session.compare.processes import run_calls, threads_per_worker, visible_gpus
from recbole_session.compare.resolving import ResolvedRow, overridden, quiet_config, resolve
from recbole_session.compare.reuse import existing_run, find_runs, identity
from recbole_session.compare.runs import Comparison, read_comparison
from recbole_session.config.values import dump_yaml
from recbole_session.errors import InputError
from recbole_session.files import replacing
from recbole_session.interrupts import Interrupted, signals_raise
from recbole_session.run.audit import audit_run, is_audited
from recbole_session.run.folder import claimed
from recbole_session.run.run import Run
from recbole_session.run.training import open_run_folder, run_session

WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Preparation:
    """A plan that was checked: nothing in it is missing or mistaken, and nothing was written.

    Attributes
    ----------
    plan : Plan
        With the rows, seeds and baseline of the command line.
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
        """Folder of the plan, the list of runs, and the report."""
        return self.runs_folder / f"comparison-{self.plan.name}"


@dataclass
class PlannedRun:
    """One run of a comparison.

    Attributes
    ----------
    row : ResolvedRow
    seed : int
    folder : Path or None
        Of the run; None before it is started.
    failure : str or None
        Why it has no result, one sentence.
    started, seconds : float
        When its process was started, on the monotonic clock, and how long that took; 0 before.
    """

    row: ResolvedRow
    seed: int
    folder: Path | None = None
    failure: str | None = None
    started: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.row.name}, seed {self.seed}"

    @property
    def is_finished(self) -> bool:
        """Whether it has a result."""
        return self.folder is not None and (self.folder / "result.json").is_file()

    def score(self) -> str:
        """Test value of the metric that chose the epoch, in words."""
        result = Run(self.folder or Path()).result
        keys = self.row.resolved
        candidates, metric = Path(keys["valid_candidates"]).stem, str(keys["valid_metric"]).lower()
        return f"{metric} ({candidates}) {result['test'][candidates][metric]:.4f}"


def prepare(plan: Plan, dataset: str, config_files: Sequence[str], command_line: Mapping[str, Any]) -> Preparation:
    """Resolve and check everything a comparison consists of.

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
        What to type to resume after an interruption.

    Raises
    ------
    InputError
        If memory does not allow for ``n_workers``, the dataset changes meanwhile, or not one run succeeds.
    Interrupted
        At SIGINT or SIGTERM, after the runs in progress have saved.
    """
    found = find_runs(prepared.runs_folder, prepared.rows)
    cells = [(row, seed) for seed in prepared.plan.seeds for row in prepared.rows]
    runs = [PlannedRun(row, seed, existing_run(row, seed, found)) for row, seed in cells]
    todo = [run for run in runs if not run.is_finished or (audit and not is_audited(run.folder or Path()))]
    tell(f"{len(prepared.rows)} rows, {len(prepared.plan.seeds)} seeds: {_summary(runs, todo)}")
    if min(n_workers, len(todo)) > 1:
        check_memory(min(n_workers, len(todo)), [(row.dataset, row.keys) for row in prepared.rows])
    write_plan(prepared)
    try:
        with signals_raise():
            _make(prepared, runs, todo, n_workers, audit, tell)
    except Interrupted as signal:
        raise Interrupted(f"{signal}: what was computed is saved; resume with: {command}", signal.number) from None
    write_runs(prepared, runs)
    if not any(run.is_finished for run in runs):
        raise InputError(f"no run succeeded, so there is no table; the first, {runs[0]}, failed: {runs[0].failure}")
    return read_comparison(prepared.folder)


def _summary(runs: Sequence[PlannedRun], todo: Sequence[PlannedRun]) -> str:
    n_audits = sum(run.is_finished for run in todo)
    n_begun = sum(run.folder is not None for run in todo) - n_audits
    text = f"{sum(run.is_finished for run in runs)} of {len(runs)} runs are there already"
    text += f", {len(todo) - n_audits} to be made" + (f" ({n_begun} begun)" if n_begun else "")
    return text + (f", the context of {n_audits} to be audited" if n_audits else "")


def _make(
    prepared: Preparation,
    runs: Sequence[PlannedRun],
    todo: Sequence[PlannedRun],
    n_workers: int,
    audit: bool,
    tell: Callable[[str], None],
) -> None:
    """Make or finish the runs ``todo``, and note how each ends."""
    start, log = time.monotonic(), prepared.folder / "failures.log"
    log.unlink(missing_ok=True)

    def calls() -> Iterator[tuple[Any, ...]]:
        for run in todo:
            keys, run.started = {**run.row.keys, "seed": run.seed}, time.monotonic()
            run.folder = run.folder or open_run_folder(quiet_config(prepared.dataset, keys), False)
            yield prepared.dataset, keys, run.folder, audit

    # Threads follow from the number of workers asked for, not of runs left: the last bits of sums depend on them.
    threads, gpus = threads_per_worker(n_workers), visible_gpus(prepared.shared)
    with closing(run_calls(make_run, calls(), n_workers, threads, gpus)) as ended:
        for count, (number, failure, output) in enumerate(ended, start=1):
            run = todo[number]
            run.seconds = time.monotonic() - run.started
            if failure is not None:
                with log.open("a", encoding="utf-8") as file:
                    file.write(f"==== {run}: {failure}\n{output}\n")
            tell(f"[{count}/{len(todo)}] {run}: {_outcome(run, failure)}{_left(len(todo) - count, count, start)}")
            write_runs(prepared, runs)


def _outcome(run: PlannedRun, failure: str | None) -> str:
    """Note how a run ended, and say it in words.

    Raises
    ------
    InputError
        If it used other data than the comparison was prepared with.
    """
    if not run.is_finished:
        run.failure = failure or "its process left no result"
        return f"FAILED, {run.failure}"
    result = Run(run.folder or Path()).result
    if result["dataset_checksum"] != run.row.checksum:
        raise InputError(
            f"dataset {run.row.dataset!r} changed during the comparison ({run} used checksum "
            f"{result['dataset_checksum'][:12]}, the comparison began with {run.row.checksum[:12]}), and one table "
            "cannot hold both; start the same command again to make all runs with the present data"
        )
    words = f"{run.score()} in {run.seconds:.0f} s"
    return words if failure is None else f"{words} (context audit FAILED, {failure})"


def make_run(dataset: str, keys: Mapping[str, Any], folder: Path, audit: bool) -> None:
    """Finish the run in ``folder`` if it is not finished, and audit its context.

    Parameters
    ----------
    dataset : str
    keys : Mapping
        With ``model`` and ``seed``.
    folder : Path
        With config.yaml.
    audit : bool
        Whether to evaluate without the context of the next interaction, see `run.audit`.
    """
    _wait_until_free(folder)
    if not (folder / "result.json").is_file():
        run_session(None, dataset, config_dict=keys, resume=folder)
    if audit:
        audit_run(folder)  # does nothing where it is done already


def _wait_until_free(folder: Path) -> None:
    """Wait for another process that is running in ``folder``, such as the last run of a comparison just killed."""
    told = False
    while True:
        try:
            with claimed(folder):
                return
        except InputError as error:
            if not isinstance(error.__cause__, TimeoutError):
                raise
        if not told:
            logging.getLogger(__name__).warning(f"waiting for another process that is running in {folder}")
            told = True
        time.sleep(WAIT_SECONDS)


def _left(n_runs: int, n_made: int, start: float) -> str:
    if not n_runs:
        return ""
    seconds = n_runs * (time.monotonic() - start) / n_made
    text = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    return f"; {n_runs} left, about {text if seconds < 6000 else f'{seconds / 3600:.1f} h'}"


def write_plan(prepared: Preparation) -> None:
    """Write comparison.yaml, which ``--plan`` reads back to the same comparison."""
    try:
        prepared.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"checkpoint_dir: cannot make {prepared.folder}: {error.strerror}") from error
    with replacing(prepared.folder / "comparison.yaml") as temporary:
        temporary.write_text(dump_yaml(dump_plan(prepared.plan, prepared.shared)), encoding="utf-8")


def write_runs(prepared: Preparation, runs: Sequence[PlannedRun]) -> None:
    """Write runs.json: for each row and seed the run folder, relative to this file, or why it has no result."""
    entries = []
    for run in sorted(runs, key=lambda run: prepared.rows.index(run.row)):
        entry: dict[str, Any] = {"row": run.row.name, "seed": run.seed}
        if run.failure is None:
            entry["folder"] = os.path.relpath(run.folder, prepared.folder) if run.folder is not None else None
        else:
            entry["failure"] = run.failure
        entries.append(entry)
    with replacing(prepared.folder / "runs.json") as temporary:
        temporary.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
