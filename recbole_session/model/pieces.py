"""A batch in pieces of similar length, so that little padding is computed.

How long a piece must be stands in the data. On a GPU, to look there is to wait until all that was asked of it is done:
`plan_pieces` looks once for a whole batch, and nothing else in the loss needs a number before it goes on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Rows that are computed together: on a CPU so few that what they need stays in its caches, elsewhere enough to keep
# the device busy.
ROWS_AT_ONCE_ON_CPU, ROWS_AT_ONCE = 12, 64


class Piece(NamedTuple):
    """Rows of a batch that are computed together.

    Attributes
    ----------
    rows : Tensor
        int64 ``[b]``, row numbers.
    length : int
        Tokens of the longest of these rows, at least 1.
    most_chosen : int
        The most chosen positions that one of them has, at least 1.
    n_chosen : int
        Chosen positions of all of them.
    """

    rows: Tensor
    length: int
    most_chosen: int
    n_chosen: int

    @property
    def tokens(self) -> tuple[Tensor, slice]:
        """Index into a batch ``[B, L]``, padded before the first token: the rows, without the padding they share."""
        return self.rows, slice(-self.length, None)


def plan_pieces(lengths: Tensor, n_chosen: Tensor, piece_size: int | None = None) -> list[Piece]:
    """Sort the rows of a batch by length and cut them into pieces.

    Parameters
    ----------
    lengths : Tensor
        int64 ``[B]``, tokens of each row.
    n_chosen : Tensor
        int64 ``[B]``, chosen positions of each row.
    piece_size : int, optional
        Rows per piece; by default what suits the device.
    """
    if piece_size is None:
        piece_size = ROWS_AT_ONCE_ON_CPU if lengths.device.type == "cpu" else ROWS_AT_ONCE
    lengths, order = lengths.sort()
    numbers = torch.stack((lengths, n_chosen[order]), dim=1).tolist()  # waits for the device
    pieces = []
    for rows, start in zip(order.split(piece_size), range(0, len(numbers), piece_size), strict=True):
        some_lengths, some_chosen = zip(*numbers[start : start + piece_size], strict=True)
        pieces.append(Piece(rows, max(*some_lengths, 1), max(*some_chosen, 1), sum(some_chosen)))
    return pieces


def places_of_true(mask: Tensor, count: int) -> Tensor:
    """Where a mask is True, without a look at it.

    Parameters
    ----------
    mask : Tensor
        bool ``[..., L]``.
    count : int
        How many places to give, whatever the mask holds.

    Returns
    -------
    Tensor
        int64 ``[..., count]``: the places of True in order, then any others.
    """
    return mask.byte().argsort(dim=-1, descending=True, stable=True)[..., :count]
