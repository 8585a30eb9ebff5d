"""One run of a comparison: made in a process of its own, watched from the one that started it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_session.compare.resolving import ResolvedRow
from recbole_session.run.audit import audit_run
from recbole_session.run.folder import RESULT_FILE, claimed
from recbole_session.run.run import Run
from recbole_session.run.trainer import SessionTrainer
from recbole_session.run.training import run_session

_PROGRESS_FILE = "progress.json"  # in the folder of a run that is being made


@dataclass(eq=False)
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
    started, seconds : float or None
        When its process was started, on the monotonic clock, and how long the process took; None before.
    """

    row: ResolvedRow
    seed: int
    folder: Path | None = None
    failure: str | None = None
    started: float | None = None
    seconds: float | None = None

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
        keys = self.row.resolved
        candidates, metric = Path(keys["valid_candidates"]).stem, str(keys["valid_metric"]).lower()
        return f"{metric} ({candidates}) {self.result()['test'][candidates][metric]:.4f}"

    def progress(self) -> dict[str, Any]:
        """How far a running run is: ``epoch``, ``epochs`` and ``best``; empty before its first validation."""
        try:
            return dict(json.loads(((self.folder or Path()) / _PROGRESS_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError):  # missing, or half written
            return {}


def make_run(dataset: str, keys: Mapping[str, Any], folder: Path, audit: bool) -> None:
    """Finish the run in ``folder`` if it is not finished, and audit its context; in a process of its own.

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
    with claimed(folder, wait=True):  # another process may be running in it
        pass
    SessionTrainer.validation_hook = _write_progress  # type: ignore[assignment]  # which makes it a method
    try:
        if not (folder / RESULT_FILE).is_file():
            run_session(None, dataset, config_dict=keys, resume=folder)
        if audit:
            audit_run(folder)  # does nothing where it is done already
    finally:
        (folder / _PROGRESS_FILE).unlink(missing_ok=True)


def _write_progress(trainer: SessionTrainer, epochs_run: int, score: float) -> None:
    """Write how far a run is, after a validation."""
    pick = max if trainer.valid_metric_bigger else min
    best = score if trainer.best_epoch < 0 else pick(score, float(trainer.best_valid_score))
    content = {"epoch": epochs_run, "epochs": trainer.epochs, "best": best}
    (trainer.run_folder / _PROGRESS_FILE).write_text(json.dumps(content), encoding="utf-8")
