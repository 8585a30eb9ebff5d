"""Carry out a plan: reuse finished runs, make the others, and read all of them back."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recbole_session.compare.plan import Plan, dump_plan, shared_keys
from recbole_session.compare.planned_run import COLUMNS, PlannedRun, describe_runs, describe_time_left, make_run
from recbole_session.compare.processes import check_memory, run_calls, threads_per_worker, visible_gpus
from recbole_session.compare.resolving import ResolvedRow, overridden, quiet_config, resolve
from recbole_session.compare.runs import Comparison, existing_run, find_runs, identity, read_comparison
from recbole_session.config.values import dump_yaml
from recbole_session.errors import InputError
from recbole_session.files import write_text
from recbole_session.interrupts import Interrupted, signals_raise
from recbole_session.live import live_table
from recbole_session.run.audit import is_audited
from recbole_session.run.folder import open_run_folder


@dataclass(frozen=True)
class Preparation:
    """A plan that was checked: nothing in it is missing or mistaken, and nothing was written."""

    plan: Plan  # with the rows, seeds and baseline of the command line
    shared: Mapping[str, Any]  # keys of all rows
    rows: list[ResolvedRow]

    @property
    def folder(self) -> Path:
        """Folder of the plan, the list of runs, and the report, beside those of the runs."""
        config = self.rows[0].config
        return Path(config["checkpoint_dir"], config["dataset"], f"comparison-{self.plan.name}")


def prepare(plan: Plan, dataset: str, config_files: Sequence[str], command_line: Mapping[str, Any]) -> Preparation:
    """Resolve and check everything a comparison consists of.

    Any mistake is an `InputError`, such as two rows that would be the same run.
    """
    shared = shared_keys(plan, config_files, command_line)
    rows = resolve(plan, {**shared, "dataset": dataset}, command_line)
    names: dict[str, str] = {}
    for row in rows:
        other = names.setdefault(identity(row.config.resolved, row.config), row.name)
        if other != row.name:
            given = [key for key in command_line if any(key in each.keys for each in plan.rows)]
            hint = f"leave --{' and --'.join(given)} out" if given else "give each a key that differs"
            raise InputError(f"rows {other!r} and {row.name!r} are the same run; {hint}")
    plan = replace(plan, rows=tuple(overridden(row, command_line) for row in plan.rows))
    return Preparation(plan, shared, rows)


def compare(prepared: Preparation, n_workers: int = 1, audit: bool = True, command: str = "") -> Comparison:
    """Make the runs that are missing, and read all of them back; standard output shows the progress.

    ``n_workers`` runs are made at once. With ``audit``, each is evaluated without its context too. ``command`` is what
    to type to resume after an interruption. If memory does not allow for ``n_workers``, the dataset changes meanwhile,
    or not one run succeeds, it raises `InputError`; at SIGINT or SIGTERM, after the runs in progress have saved,
    `Interrupted`.
    """
    found = find_runs(prepared.folder.parent, prepared.rows)
    cells = [(row, seed) for seed in prepared.plan.seeds for row in prepared.rows]
    runs = [PlannedRun(row, seed, existing_run(row, seed, found)) for row, seed in cells]
    todo = [run for run in runs if not run.is_finished or (audit and not is_audited(run.folder or Path()))]
    print(f"{len(prepared.rows)} rows, {len(prepared.plan.seeds)} seeds: {_summary(runs, todo)}", flush=True)
    if min(n_workers, len(todo)) > 1:
        print("measuring how much memory a run takes", flush=True)
        check_memory(min(n_workers, len(todo)), [row.keys for row in prepared.rows])
    write_plan(prepared)
    try:
        with signals_raise(), live_table(COLUMNS, lambda: describe_runs(runs, todo, n_workers)) as tell:
            _make(prepared, runs, todo, n_workers, audit, tell)
        write_runs(prepared, runs)
    except Interrupted as signal:
        raise Interrupted(f"{signal}: what was computed is saved; resume with: {command}", signal.number) from None
    except OSError as error:
        raise InputError(
            f"{prepared.folder} cannot be written to: {error.strerror}; what was computed is saved, so make room and "
            "start the same command again"
        ) from error
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
    log = prepared.folder / "failures.log"
    log.unlink(missing_ok=True)

    def calls() -> Iterator[tuple[Any, ...]]:
        for run in todo:
            keys, run.started = {**run.row.keys, "seed": run.seed}, time.monotonic()
            run.folder = run.folder or open_run_folder(quiet_config(keys))
            yield keys, run.folder, audit

    # Threads follow from the number of workers asked for, not of runs left: the last bits of sums depend on them.
    threads, gpus = threads_per_worker(n_workers), visible_gpus(prepared.shared)
    with closing(run_calls(make_run, calls(), n_workers, threads, gpus)) as ended:
        for count, (number, failure, output) in enumerate(ended, start=1):
            run = todo[number]
            run.seconds = time.monotonic() - (run.started or 0.0)
            if failure is not None:
                with log.open("a", encoding="utf-8") as file:
                    file.write(f"==== {run}: {failure}\n{output}\n")
            outcome = _outcome(run, failure)
            tell(f"[{count}/{len(todo)}] {run}: {outcome}{describe_time_left(runs, todo, n_workers)}")
            write_runs(prepared, runs)


def _outcome(run: PlannedRun, failure: str | None) -> str:
    """Note how a run ended, and say it in words; refuse one on other data than the comparison was prepared with."""
    if not run.is_finished:
        run.failure = failure or "its process left no result"
        return f"FAILED, {run.failure}"
    checksum = run.result()["dataset_checksum"]
    if checksum != run.row.checksum:
        dataset = run.row.config["dataset"]
        raise InputError(
            f"dataset {dataset!r} changed during the comparison ({run} used checksum {checksum[:12]}, the "
            f"comparison began with {run.row.checksum[:12]}), and one table cannot hold both; start the same command "
            "again to make all runs with the present data"
        )
    words = f"{run.score()} in {run.seconds:.0f} s"
    return words if failure is None else f"{words} (context audit FAILED, {failure})"


def write_plan(prepared: Preparation) -> None:
    """Write comparison.yaml, which ``--plan`` reads back to the same comparison."""
    try:
        prepared.folder.mkdir(parents=True, exist_ok=True)
        write_text(prepared.folder / "comparison.yaml", dump_yaml(dump_plan(prepared.plan, prepared.shared)))
    except OSError as error:
        raise InputError(f"checkpoint_dir: cannot write to {prepared.folder}: {error.strerror}") from error


def write_runs(prepared: Preparation, runs: Sequence[PlannedRun]) -> None:
    """Write runs.json, see `read_comparison`."""
    entries = []
    for run in sorted(runs, key=lambda run: prepared.rows.index(run.row)):
        folder = run.folder and os.path.relpath(run.folder, prepared.folder)
        end = {"folder": folder} if run.failure is None else {"failure": run.failure}
        entries.append({"row": run.row.name, "seed": run.seed, "dataset_checksum": run.row.checksum, **end})
    write_text(prepared.folder / "runs.json", json.dumps(entries, indent=2) + "\n")
