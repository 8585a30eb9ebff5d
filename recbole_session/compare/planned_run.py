"""One run of a comparison: made in a process of its own; what a terminal shows of it, and the time it still takes."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from recbole_session.compare.resolving import ResolvedRow
from recbole_session.live import Rows, in_words
from recbole_session.run.audit import audit_run
from recbole_session.run.folder import RESULT_FILE, claimed
from recbole_session.run.run import Run
from recbole_session.run.trainer import SessionTrainer
from recbole_session.run.training import run_session

COLUMNS = ("row", "done", "now", "time left")  # of what a terminal shows
_PROGRESS_FILE = "progress.json"  # in the folder of a run that is being made


@dataclass(eq=False)
class PlannedRun:
    """One run of a comparison."""

    row: ResolvedRow
    seed: int
    folder: Path | None = None  # None before it is started
    failure: str | None = None  # why it has no result, one sentence
    started: float | None = None  # when its process was started, on the monotonic clock; None before
    seconds: float | None = None  # how long the process took; None before it has ended

    def __str__(self) -> str:
        return f"{self.row.name}, seed {self.seed}"

    @property
    def is_finished(self) -> bool:
        """Whether it has a result."""
        return self.folder is not None and (self.folder / RESULT_FILE).is_file()

    @property
    def is_running(self) -> bool:
        """Whether its process has been started and has not ended."""
        return self.started is not None and self.seconds is None

    def result(self) -> dict[str, Any]:
        """Read result.json of a finished run."""
        return Run(self.folder or "").result

    def score(self) -> str:
        """Test value of the metric that chose the epoch, in words."""
        config = self.row.config
        candidates, metric = Path(config["valid_candidates"]).stem, str(config["valid_metric"]).lower()
        return f"{metric} ({candidates}) {self.result()['test'][candidates][metric]:.4f}"

    def progress(self) -> dict[str, Any]:
        """How far a running run is: ``epoch``, ``epochs`` and ``best``, None before a validation; empty at first."""
        try:
            return dict(json.loads(((self.folder or Path()) / _PROGRESS_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError):  # missing, or half written
            return {}


def make_run(keys: Mapping[str, Any], folder: Path, audit: bool) -> None:
    """Finish the run in ``folder``, which has a config.yaml, if it is not finished; in a process of its own.

    With ``audit``, the run is evaluated without the context too, see `run.audit`.
    """
    with claimed(folder, wait=True):  # another process may be running in it
        pass
    SessionTrainer.epoch_hook = _write_progress
    try:
        if not (folder / RESULT_FILE).is_file():
            run_session(config_dict=keys, resume=folder)
        if audit:
            audit_run(folder)  # does nothing where it is done already
    finally:
        (folder / _PROGRESS_FILE).unlink(missing_ok=True)


def _write_progress(trainer: SessionTrainer) -> None:
    """Write how far a run is, after an epoch."""
    best = float(trainer.best_valid_score) if trainer.best_epoch >= 0 else None
    content = {"epoch": trainer.epochs_run, "epochs": trainer.epochs, "best": best}
    (trainer.run_folder / _PROGRESS_FILE).write_text(json.dumps(content), encoding="utf-8")


# ---- in the process that started it


def describe_runs(runs: Sequence[PlannedRun], todo: Sequence[PlannedRun], n_workers: int) -> tuple[Rows, str]:
    """Cells of the table, and the line below it; ``todo`` are those of the runs that are made or audited now."""
    cells = []
    for name in dict.fromkeys(run.row.name for run in runs):
        mine = [run for run in runs if run.row.name == name]
        waiting = [run for run in mine if run in todo and run.seconds is None]
        seconds = _seconds_left(mine, waiting)
        now = "\n".join(_describe(run) for run in waiting if run.is_running)
        time_left = "" if not waiting else "?" if seconds is None else f"about {in_words(seconds)}"
        cells.append((name, f"{len(mine) - len(waiting)}/{len(mine)}", now, time_left))
    n_made = sum(run.seconds is not None for run in todo)
    return cells, f"{n_made} of {len(todo)} made{describe_time_left(runs, todo, n_workers)}"


def describe_time_left(runs: Sequence[PlannedRun], todo: Sequence[PlannedRun], n_workers: int) -> str:
    """Say how long the whole comparison still takes; empty at the start, when no run has ended, and at the end."""
    waiting = [run for run in todo if run.seconds is None]
    seconds = [
        _seconds_left([run for run in runs if run.row.name == name], [run for run in waiting if run.row.name == name])
        for name in {run.row.name for run in waiting}
    ]
    return f", about {in_words(sum(filter(None, seconds)) / n_workers)} left" if seconds and None not in seconds else ""


def _describe(run: PlannedRun) -> str:
    """Say what a worker is doing."""
    progress = run.progress()
    if run.is_finished:
        return f"seed {run.seed}: context audit"
    if not progress:
        return f"seed {run.seed}: begun {in_words(time.monotonic() - (run.started or 0.0))} ago"
    best = "" if progress["best"] is None else f", best {progress['best']:.4f}"
    return f"seed {run.seed}: epoch {progress['epoch']} of {progress['epochs']}{best}"


def _seconds_left(runs: Sequence[PlannedRun], waiting: Sequence[PlannedRun]) -> float | None:
    """Seconds that the waiting and running runs of a row still take, one after the other; None while unknown.

    A run takes as long as those of its row that have ended; before one has, as long as all its epochs would.
    """
    ended = [run.seconds for run in runs if run.seconds is not None and run.failure is None]
    whole, seconds = mean(ended) if ended else None, 0.0
    for run in sorted(waiting, key=lambda run: not run.is_running):
        elapsed = time.monotonic() - run.started if run.started is not None else 0.0
        progress = run.progress() if run.is_running and not ended else {}
        if progress:
            whole = elapsed * progress["epochs"] / progress["epoch"]
        if whole is None:
            return None
        seconds += max(0.0, whole - elapsed)
    return seconds
