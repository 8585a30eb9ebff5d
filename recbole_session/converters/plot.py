"""One picture of a dataset: rows per session, sessions per user, gaps between rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recbole_session.converters.stats import HOUR, Sizes
from recbole_session.converters.thresholds import DAY
from recbole_session.errors import InputError


def plot_sizes(sizes: Sizes, title: str, path: Path) -> None:
    """Write the three histograms as an image; the ending of ``path`` is its format.

    Raises
    ------
    InputError
        If matplotlib is missing, or cannot write such a file there.
    """
    try:
        from matplotlib.figure import Figure  # no pyplot: no display, no global state
    except ImportError as error:
        raise InputError("--plot needs matplotlib: pip install 'recbole-session[plot]'.") from error
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    rows_axis, sessions_axis, gaps_axis = figure.subplots(1, 3)
    rows_axis.hist(sizes.rows_per_session, bins=_log_bins(int(sizes.rows_per_session.max())))
    rows_axis.set(xscale="log", xlabel="rows per session", ylabel="sessions")
    most = int(np.percentile(sizes.sessions_per_user, 99))  # a few users with hundreds would flatten the rest
    shown = np.minimum(sizes.sessions_per_user, most)
    sessions_axis.hist(shown, bins=np.arange(0.5, most + 1.5))
    sessions_axis.set(xlabel=f"sessions per user ({most} stands for more too)", ylabel="users")
    gaps = np.maximum(sizes.gaps, 1)  # a logarithmic axis has no zero
    gaps_axis.hist(gaps, bins=_log_bins(int(gaps.max(initial=1))))
    gaps_axis.set(xscale="log", yscale="log", xlabel="gap between rows (s, 0 drawn as 1)", ylabel="pairs of rows")
    for seconds, name in ((HOUR, "1 h"), (DAY, "1 day"), (7 * DAY, "7 days")):
        gaps_axis.axvline(seconds, color="black", linewidth=0.8, linestyle="--")
        gaps_axis.text(seconds, 1, name, rotation=90, va="top", ha="right", transform=gaps_axis.get_xaxis_transform())
    figure.suptitle(title)
    try:
        # No date and no version in the file: the same dataset gives the same bytes.
        figure.savefig(path, metadata={"Software": None} if path.suffix == ".png" else None)
    except (OSError, ValueError) as error:
        raise InputError(f"--plot {path} cannot be written ({error}): give a path that ends in .png.") from error


def _log_bins(largest: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.geomspace(1, max(largest, 2) * 1.001, 40)
