"""A batch in pieces of similar length, so that little padding is computed.

Piece lengths depend on the data, and reading them forces a GPU sync. `plan_pieces` reads them once for a whole batch;
nothing else in the loss waits for the GPU.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Rows that are computed together: on a CPU few enough for its caches, elsewhere enough to keep the device busy.
ROWS_AT_ONCE_ON_CPU, ROWS_AT_ONCE = 12, 64


class Piece(NamedTuple):
    """Rows of a batch that are computed together."""

    rows: Tensor  # int64 [b], row numbers
    length: int  # tokens of the longest of them, at least 1
    most_chosen: int  # chosen positions of the row that has the most, at least 1
    n_chosen: int  # chosen positions of all of them

    @property
    def tokens(self) -> tuple[Tensor, slice]:
        """Index into a batch ``[B, L]``, padded before the first token: the rows, without the padding they share."""
        return self.rows, slice(-self.length, None)


def plan_pieces(lengths: Tensor, n_chosen: Tensor) -> list[Piece]:
    """Sort the rows of a batch by length and cut them into pieces of a size that suits the device.

    ``lengths`` and ``n_chosen``, int64 ``[B]``, are the tokens and the chosen positions of each row.
    """
    piece_size = ROWS_AT_ONCE_ON_CPU if lengths.device.type == "cpu" else ROWS_AT_ONCE
    lengths, order = lengths.sort()
    numbers = torch.stack((lengths, n_chosen[order]), dim=1).tolist()  # waits for the device
    pieces = []
    for rows, start in zip(order.split(piece_size), range(0, len(numbers), piece_size), strict=True):
        some_lengths, some_chosen = zip(*numbers[start : start + piece_size], strict=True)
        pieces.append(Piece(rows, max(*some_lengths, 1), max(*some_chosen, 1), sum(some_chosen)))
    return pieces


def places_of_true(mask: Tensor, count: int) -> Tensor:
    """Places of True in a mask (bool ``[..., L]``) in order, then any others, int64 ``[..., count]``; no GPU sync."""
    return mask.byte().argsort(dim=-1, descending=True, stable=True)[..., :count]
