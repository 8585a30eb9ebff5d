r"""Leave one out, by time: which rows of a user are targets of which split.

For a user with rows ``a b c d e`` in order of time::

    train   targets b c     (masked models: the sequence a b c)
    valid   target d        history a b c
    test    target e        history a b c d   (the validation item included, the model not retrained)

Three rows leave none for validation, two none for testing, and one row says nothing (RecBole's rule).
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_session.data.sequences import UserSequences

SPLITS = ("train", "valid", "test")


def leave_one_out(sequences: UserSequences) -> dict[str, tuple[Tensor, Tensor]]:
    """Samples ``(users, ends)`` of every split; ``ends`` is the row of the target, int64 ``[S]`` both.

    The history of a sample is the user's rows before ``ends``.
    """
    lengths = sequences.lengths
    users = torch.arange(sequences.n_users)
    has_test, has_valid = users[lengths >= 3], users[lengths >= 4]
    last_rows = sequences.offsets[1:] - 1

    n_targets = (_training_lengths(lengths) - 1).clamp(min=0)
    train_users = users.repeat_interleave(n_targets)
    first_targets = sequences.offsets[:-1] + 1
    place = torch.arange(len(train_users)) - (n_targets.cumsum(0) - n_targets)[train_users]
    return {
        "train": (train_users, first_targets[train_users] + place),
        "valid": (has_valid, last_rows[has_valid] - 1),
        "test": (has_test, last_rows[has_test]),
    }


def last_training_rows(sequences: UserSequences) -> tuple[Tensor, Tensor]:
    """One sample per user that has training targets: the last of them."""
    training_lengths = _training_lengths(sequences.lengths)
    users = torch.arange(sequences.n_users)[training_lengths >= 2]
    return users, sequences.offsets[users] + training_lengths[users] - 1


def _training_lengths(lengths: Tensor) -> Tensor:
    """Rows of every user that belong to training, from the number of all of them."""
    return torch.where(lengths >= 4, lengths - 2, torch.where(lengths == 3, lengths - 1, lengths))
