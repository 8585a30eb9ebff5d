r"""Which rows of a user are targets of which split, by RecBole's key ``eval_args.split``.

Every split cuts a user's rows, which are in order of time, in two places. For rows ``a b | c d | e f`` (``|``: a new
session)::

    split                       training   validation   test
    {LS: valid_and_test}        a b c d    e            f         leave one out
    {SS: valid_and_test}        a b        c d          e f       by sessions
    {TS: [t1, t2]}              a .. < t1  .. < t2      the rest  by time, the same moments for all users

The history of a target is all of the user's rows before it, those of validation and test included; the model is not
retrained on them. A row without history is not a target.

Users with few rows or sessions keep what training needs: three rows (``SS``: two sessions) leave none for validation,
two rows (``SS``: one session) none for testing.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recbole_session.data.sequences import UserSequences

Samples = tuple[Tensor, Tensor]


def split_bounds(sequences: UserSequences, split: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Cut the rows of every user.

    Parameters
    ----------
    split : Mapping
        ``{LS: valid_and_test}``, ``{SS: valid_and_test}``, or ``{TS: [...]}`` with two moments (seconds, Unix UTC)
        or three shares of all rows, such as ``[0.8, 0.1, 0.1]``, from which the two moments follow.

    Returns
    -------
    valid_from, test_from : Tensor
        int64 ``[U]``, row numbers: the user's first row of validation, and of the test.
    """
    begins, ends = sequences.offsets[:-1], sequences.offsets[1:]
    if "TS" in split:
        moments = split["TS"]
        if len(moments) == 3:
            moments = moments_of_shares(sequences.times, moments)
        # A user's times ascend: the rows before a moment are the first ones.
        users = torch.arange(sequences.n_users).repeat_interleave(sequences.lengths)
        valid_from, test_from = (
            begins + torch.bincount(users[sequences.times < moment], minlength=sequences.n_users) for moment in moments
        )
        return valid_from, test_from
    # Rows that open the last unit and the last but one; the units are rows or sessions.
    if "SS" in split:
        opening_rows = sequences.starts_session().nonzero()[:, 0]
        opened = torch.searchsorted(opening_rows, sequences.offsets)  # [U + 1], sessions before each user
        n_units, highest = opened.diff(), max(len(opening_rows) - 1, 0)
        last, last_but_one = (
            opening_rows[(opened[1:] - back).clamp(0, highest)] if len(opening_rows) else ends for back in (1, 2)
        )
        fewest = 2
    else:
        n_units, last, last_but_one, fewest = sequences.lengths, ends - 1, ends - 2, 3
    test_from = torch.where(n_units >= fewest, last, ends)
    return torch.where(n_units >= fewest + 1, last_but_one, test_from), test_from


def moments_of_shares(times: Tensor, shares: list[float]) -> list[int]:
    """Moments that leave about so many of all rows before, between and from them on; equal times stay together."""
    ordered = times.sort().values
    places = (int(sum(shares[:count]) / sum(shares) * len(times)) for count in (1, 2))
    return [int(ordered[min(place, len(times) - 1)]) for place in places]


def samples_between(sequences: UserSequences, first: Tensor, stop: Tensor) -> Samples:
    """Samples ``(users, ends)`` of every user's rows from ``first`` to before ``stop``, both row numbers ``[U]``.

    ``ends`` is the row of the target, int64 ``[S]`` both, ordered by user and time. The history of a sample is the
    user's rows before ``ends``.
    """
    first = torch.maximum(first, sequences.offsets[:-1] + 1)  # what has no history is not a target
    counts = (stop - first).clamp(min=0)
    rows = (first - (counts.cumsum(0) - counts)).repeat_interleave(counts)
    rows += torch.arange(len(rows))
    return torch.arange(sequences.n_users).repeat_interleave(counts), rows


def training_windows(sequences: UserSequences, valid_from: Tensor, stride: int | None) -> Samples:
    """Samples of models that learn from every row of their input: one per user, or one per ``stride`` of its targets.

    Parameters
    ----------
    valid_from : Tensor
        int64 ``[U]``, the first row of each user that is not for training.
    stride : int or None
        Rows from the end of one sample to the end of the next, counted back from the user's last training row. None
        for a single sample, which ends at that row.

    Returns
    -------
    users, ends : Tensor
        As in `samples_between`, ordered by user and then from the last row back.
    """
    n_targets = (valid_from - sequences.offsets[:-1] - 1).clamp(min=0)
    counts = n_targets.clamp(max=1) if stride is None else (n_targets + stride - 1) // stride
    users = torch.arange(sequences.n_users).repeat_interleave(counts)
    back = torch.arange(len(users)) - (counts.cumsum(0) - counts)[users]  # 0 for the user's last window
    return users, valid_from[users] - 1 - back * (stride or 0)


def drawn_ends(sequences: UserSequences, windows: Samples, stride: int, generator: torch.Generator) -> Tensor:
    """Draw where each of the `training_windows` ends this time, int64 ``[S]``.

    A user's last window keeps its end, so that the latest rows are in every epoch. For the others each of the
    ``stride`` targets up to the window's end is equally likely; a user's first window may have fewer.
    """
    users, ends = windows
    n_ends = (ends - sequences.offsets[users]).clamp(max=stride)
    n_ends[users.diff(prepend=torch.tensor([-1])) != 0] = 1  # a user's last window comes first
    return ends - (torch.rand(len(ends), generator=generator, dtype=torch.float64) * n_ends).long()


def users_without_history(sequences: UserSequences, valid_from: Tensor) -> Tensor:
    """Users whose first row is not for training: nothing precedes it, and it is not a target; int64 ``[n]``."""
    return ((valid_from == sequences.offsets[:-1]) & (sequences.lengths > 0)).nonzero()[:, 0]
