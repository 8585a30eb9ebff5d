"""Table 1 for any atomic dataset, and how its sessions react to the gap."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_session.data.atomic import check_times, read_columns, read_header
from recbole_session.data.sequences import UserSequences, build_user_sequences
from recbole_session.errors import InputError, needs
from recbole_session.files import replacing

HOUR, DAY = 3_600, 86_400  # seconds
GAPS = {  # seconds
    "30 min": HOUR // 2, "1 h": HOUR, "3 h": 3 * HOUR, "6 h": 6 * HOUR, "12 h": 12 * HOUR,
    "1 day": DAY, "2 days": 2 * DAY, "3 days": 3 * DAY, "7 days": 7 * DAY,
}  # fmt: skip

# Table 1 of the paper: users, items, rows, and the quartile lines in the order of `table_rows`.
PAPER = {
    "steam": ("6,330", "4,331", "49,163", "0.18%", "5/6/8", "2/2/2", "2/3/3"),
    "ml-1m": ("1,196", "3,327", "158,498", "3.98%", "73/137/200", "2/2/3", "8/26/70"),
    "ml-20m": ("23,404", "12,239", "1,981,866", "0.69%", "35/68/124", "2/2/3", "6/15/39"),
}


class Sizes(NamedTuple):
    """Sizes of the groups in Table 1, and the seconds between a user's successive rows."""

    rows_per_user: NDArray[np.int64]
    sessions_per_user: NDArray[np.int64]
    rows_per_session: NDArray[np.int64]
    gaps: NDArray[np.int64]


def load_sequences(path: Path, session_gap: int = DAY) -> UserSequences:
    """Read an ``.inter`` file; sessions are its ``session_id``, or made by ``session_gap`` (seconds) without one.

    An `InputError` if the file is missing, empty, not an atomic file, or lacks user, item or timestamp.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist: convert the dataset first, or name its folder by --data_path.")
    fields = read_header(path, "\t", "utf-8-sig")
    missing = [name for name in ("user_id", "item_id", "timestamp") if name not in fields]
    if missing:
        raise InputError(f"{path} has no column {missing[0]}; it needs user_id, item_id and timestamp")
    if fields["timestamp"] != "float":
        raise InputError(f"{path}, line 1: timestamp is of type {fields['timestamp']}; write timestamp:float")
    frame = read_columns(path, fields, ("user_id", "item_id", "timestamp", "session_id"), "\t", "utf-8-sig")
    check_times(path, "timestamp", frame["timestamp"])
    frame = frame.dropna(subset=["user_id", "item_id"])  # as RecBole does
    if frame.empty:
        raise InputError(f"{path} holds no rows: convert the dataset again")
    users, items = (pd.factorize(frame[name])[0] + 1 for name in ("user_id", "item_id"))  # 0 is padding
    times = np.floor(frame["timestamp"].to_numpy()).astype(np.int64)
    sessions = pd.factorize(frame["session_id"])[0] if "session_id" in frame else None
    return build_user_sequences(users, items, times, users.max() + 1, sessions, session_gap)


def group_sizes(sequences: UserSequences) -> Sizes:
    """Measure users, without the padding, and sessions."""
    times, offsets = sequences.times.numpy(), sequences.offsets.numpy()
    first_rows = np.flatnonzero(sequences.starts_session().numpy())
    return Sizes(
        rows_per_user=np.diff(offsets)[1:],
        sessions_per_user=np.diff(np.searchsorted(first_rows, offsets))[1:],
        rows_per_session=np.diff(first_rows, append=len(times)),
        gaps=np.delete(np.diff(times), offsets[2:-1] - 1),  # all but those from one user to the next
    )


def quartiles(values: NDArray[Any]) -> str:
    """Return the three quartiles, linearly interpolated, as Table 1 writes them: ``67/125/200``."""
    return "/".join(f"{value:g}" for value in np.percentile(values, [25, 50, 75]))


def table_rows(sequences: UserSequences) -> list[tuple[str, str]]:
    """Return the lines of Table 1: name and value."""
    sizes = group_sizes(sequences)
    users, items, rows = len(sizes.rows_per_user), int(sequences.items.max()), len(sequences.items)
    return [
        ("#users", f"{users:,}"),
        ("#items", f"{items:,}"),
        ("#rows", f"{rows:,}"),
        ("density", f"{rows / (users * items):.2%}"),
        ("item/user Q1/Q2/Q3", quartiles(sizes.rows_per_user)),
        ("session/user Q1/Q2/Q3", quartiles(sizes.sessions_per_user)),
        ("item/session Q1/Q2/Q3", quartiles(sizes.rows_per_session)),
    ]


def gap_rows(sequences: UserSequences) -> list[tuple[str, ...]]:
    """Return, for gaps from 30 minutes to 7 days, what the sessions of these rows would be.

    Each line: gap, sessions, session/user quartiles, item/session quartiles, and the users who would
    pass the paper's last step (at least 2 sessions, none of a single row).
    """
    lines: list[tuple[str, ...]] = []
    users = np.repeat(np.arange(sequences.n_users), sequences.lengths)
    items, times = sequences.items.numpy(), sequences.times.numpy()
    for name, gap in GAPS.items():
        by_gap = build_user_sequences(users, items, times, sequences.n_users, session_gap=gap)
        _, sessions, rows, _ = group_sizes(by_gap)
        shortest = np.minimum.reduceat(rows, np.cumsum(sessions) - sessions)  # of each user's sessions
        passing = np.count_nonzero((sessions >= 2) & (shortest >= 2))
        lines.append((name, f"{len(rows):,}", quartiles(sessions), quartiles(rows), f"{passing:,}"))
    return lines


def plot_sizes(sizes: Sizes, title: str, path: Path) -> None:
    """Write the three histograms as an image; the ending of ``path`` is its format.

    An `InputError` if matplotlib is missing, or cannot write such a file there.
    """
    with needs("--plot", "matplotlib", "plot"):
        from matplotlib.figure import Figure  # no pyplot: no display, no global state
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
    with replacing(path) as temporary:
        try:
            # No date and no version in the file: the same dataset gives the same bytes.
            metadata = {"Software": None} if path.suffix == ".png" else None
            figure.savefig(temporary, format=path.suffix[1:], metadata=metadata)
        except ValueError as error:
            raise InputError(f"--plot {path} cannot be written ({error}): give a path that ends in .png.") from error


def _log_bins(largest: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.geomspace(1, max(largest, 2) * 1.001, 40)
