"""How a run's validation metric grew, read from its TensorBoard events."""

from __future__ import annotations

from pathlib import Path

_TAG = "Vaild_score"  # spelled so in RecBole's trainer


def validation_curve(run_folder: Path) -> list[tuple[int, float]]:
    """Read the validation history of a run: epochs, from 1, and the metric there; empty where there is none.

    An epoch that was trained twice, because the run was killed after it and resumed, counts as it was the last time.
    """
    folder = run_folder / "tensorboard"
    if not folder.is_dir():
        return []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    if _TAG not in events.Tags()["scalars"]:
        return []
    in_time = sorted(events.Scalars(_TAG), key=lambda event: event.wall_time)
    return sorted({event.step + 1: event.value for event in in_time}.items())
