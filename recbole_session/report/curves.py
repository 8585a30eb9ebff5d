"""How a run's validation metric grew, read from its TensorBoard events."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_TAG = "Vaild_score"  # spelled so in RecBole's trainer


class Curve(NamedTuple):
    """Epochs, from 1, at which a run was validated, and the validation metric there."""

    epochs: list[int]
    values: list[float]


def validation_curve(run_folder: Path) -> Curve:
    """Read the validation history of a run; empty where there is none.

    An epoch that was trained twice, because the run was killed after it and went on, counts as it was the last time.
    """
    folder = run_folder / "tensorboard"
    if not folder.is_dir():
        return Curve([], [])
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    if _TAG not in events.Tags()["scalars"]:
        return Curve([], [])
    by_epoch = {
        event.step + 1: event.value for event in sorted(events.Scalars(_TAG), key=lambda event: event.wall_time)
    }
    epochs = sorted(by_epoch)
    return Curve(epochs, [by_epoch[epoch] for epoch in epochs])
