"""What a terminal shows of a comparison: per row, what is done, what its workers do, and the time it still takes."""

import time
from collections.abc import Sequence
from statistics import mean

from recbole_session.compare.planned_run import PlannedRun
from recbole_session.live import Rows, in_words

COLUMNS = ("row", "done", "now", "time left")


def describe_runs(runs: Sequence[PlannedRun], todo: Sequence[PlannedRun], n_workers: int) -> tuple[Rows, str]:
    """Cells of the table, and the line below it.

    Parameters
    ----------
    runs, todo : sequence of PlannedRun
        All runs, and those of them that are made or audited now.
    n_workers : int
    """
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
    return f"seed {run.seed}: epoch {progress['epoch']} of {progress['epochs']}, best {progress['best']:.4f}"


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
