"""`UserSequences`: every interaction of every user in exact order of time, as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class UserSequences:
    """All rows, grouped by user and ordered by time; equal times keep the order of the file.

    Attributes
    ----------
    items : Tensor
        int64 ``[N]``, an item (or any token) per row.
    sessions : Tensor
        int64 ``[N]``, number of the row's session, growing by one from session to session of a user.
        Numbers of different users do not compare.
    times : Tensor
        int64 ``[N]``, seconds, Unix UTC.
    offsets : Tensor
        int64 ``[U + 1]``; the rows of user ``u`` are ``offsets[u]:offsets[u + 1]``. User 0 is RecBole's
        padding and has none.
    """

    items: Tensor
    sessions: Tensor
    times: Tensor
    offsets: Tensor

    @property
    def n_users(self) -> int:
        """Number of users, padding included."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Rows of every user, int64 ``[U]``."""
        return self.offsets.diff()

    def to(self, device: torch.device) -> UserSequences:
        """Return the same rows on ``device``; those that are there already are not copied."""
        return UserSequences(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def starts_session(self) -> Tensor:
        """Bool ``[N]``, True on the first row of every session."""
        starts = torch.ones(len(self.items), dtype=torch.bool)
        starts[1:] = self.sessions.diff() != 0
        first_rows = self.offsets[:-1][self.lengths > 0]
        starts[first_rows] = True
        return starts


def build_user_sequences(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    times: NDArray[np.int64],
    n_users: int,
    session_ids: NDArray[np.int64] | None = None,
    session_gap: int = 86_400,
) -> UserSequences:
    """Sort rows by (user, time, place in the file) and number the sessions.

    Parameters
    ----------
    users, items : ndarray
        int64 ``[N]``, RecBole's internal ids.
    times : ndarray
        int64 ``[N]``, seconds, Unix UTC.
    n_users : int
        Number of users, padding included.
    session_ids : ndarray, optional
        int64 ``[N]``; a new session starts where the id differs from that of the user's row before. Without
        it, where the gap to that row is greater than ``session_gap`` seconds.
    session_gap : int
        Seconds.
    """
    order = np.lexsort((times, users))  # stable: rows of one user and time stay in the order of the file
    users, items, times = users[order], items[order], times[order]
    starts = np.ones(len(users), dtype=bool)
    opens = np.diff(times) > session_gap if session_ids is None else np.diff(session_ids[order]) != 0
    starts[1:] = opens | (np.diff(users) != 0)
    offsets = np.searchsorted(users, np.arange(n_users + 1))
    return UserSequences(
        items=torch.from_numpy(items),
        sessions=torch.from_numpy(np.cumsum(starts)),
        times=torch.from_numpy(times),
        offsets=torch.from_numpy(offsets),
    )


def insert_session_tokens(sequences: UserSequences, token: int) -> tuple[UserSequences, Tensor]:
    """Put ``token`` before the first row of every session, with that row's session and time.

    Returns
    -------
    sequences : UserSequences
        ``[N + S]`` rows for ``S`` sessions.
    places : Tensor
        int64 ``[N]``, where each row of the input went.
    """
    starts = sequences.starts_session()
    places = torch.arange(len(starts)) + starts.cumsum(0)
    source = torch.arange(len(starts)).repeat_interleave(starts.long() + 1)  # the first row of a session twice
    items = torch.full_like(source, token)
    items[places] = sequences.items
    sessions_before = torch.cat((torch.zeros(1, dtype=torch.int64), starts.cumsum(0)))
    return (
        UserSequences(
            items=items,
            sessions=sequences.sessions[source],
            times=sequences.times[source],
            offsets=sequences.offsets + sessions_before[sequences.offsets],
        ),
        places,
    )
