"""Where one session ends and the next begins: the single rule of the whole project, numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

DAY = 86_400  # seconds; the paper's session gap


def session_starts(users: NDArray[Any], times: NDArray[Any], session_gap: float = DAY) -> NDArray[np.bool_]:
    """Mark the rows that open a session.

    Parameters
    ----------
    users
        ``[N]`` user of each row, any dtype that compares; all rows of one user adjacent.
    times
        ``[N]`` integer seconds (Unix, UTC), ascending within each user.
    session_gap
        Seconds of silence. A gap must be *strictly* greater to open a session.

    Returns
    -------
    ndarray of bool ``[N]``
        True on the first row of a user and on every row that follows such a silence.

    Raises
    ------
    ValueError
        If the two arrays differ in shape or are not one-dimensional.
    """
    if users.shape != times.shape or users.ndim != 1:
        raise ValueError(f"users {users.shape} and times {times.shape} must be two arrays of one length")
    starts = np.ones(len(users), dtype=np.bool_)
    if len(users) > 1:
        # Between two users the difference may be negative or huge; the first test covers those rows.
        starts[1:] = (users[1:] != users[:-1]) | (times[1:] - times[:-1] > session_gap)
    return starts
