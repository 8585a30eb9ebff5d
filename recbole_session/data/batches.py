r"""Batches cut from `UserSequences` when they are asked for; nothing is stored per prefix.

What a sample ``(user, end)`` sees, for a user with rows ``a b | c d`` (``|``: a new session)::

    end = row of d:   history a b c, target d
    "prefix" layout   item_id_list  a b c 0 ...            item_length 3
    "tokens" layout   item_seq   0 ... S a b S c M         S: session token, M: mask in the place of d
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from recbole_session.data.sequences import UserSequences, insert_session_tokens

PADDING = 0
UNKNOWN_TIME = torch.iinfo(torch.int64).min  # time of a predicted item where nobody knows when it happens


def mask_token(n_items: int) -> int:
    """Token of the item to be predicted; ``n_items`` counts the padding, as RecBole's ``item_num`` does."""
    return n_items


def session_token(n_items: int) -> int:
    """Token that precedes every session when ST is on."""
    return n_items + 1


def prefix_batch(config: Any, sequences: UserSequences, users: Tensor, ends: Tensor) -> dict[str, Tensor]:
    """Input of RecBole's sequential models: the latest rows of each user that precede ``ends``.

    ``users`` and ``ends`` are int64 ``[B]``; ``ends`` are the rows to be predicted. ``L`` is ``MAX_ITEM_LIST_LENGTH``.

    Returns
    -------
    dict
        By RecBole's field names, int64: items and times of the history ``[B, L]`` oldest first, padding last,
        their number ``[B]``, and the time of the row to be predicted ``[B]``.
    """
    length = config["MAX_ITEM_LIST_LENGTH"]
    first = torch.maximum(sequences.offsets[users], ends - length)
    rows = first.unsqueeze(1) + torch.arange(length, device=ends.device)
    is_row = rows < ends.unsqueeze(1)
    rows *= is_row
    time_field, suffix = config["TIME_FIELD"], config["LIST_SUFFIX"]
    return {
        time_field: sequences.times[ends],
        config["ITEM_ID_FIELD"] + suffix: sequences.items[rows] * is_row,
        time_field + suffix: sequences.times[rows] * is_row,
        config["ITEM_LIST_LENGTH_FIELD"]: is_row.sum(1),
    }


def lay_out(
    config: Any, n_items: int, sequences: UserSequences, features: Collection[str] | None = None
) -> tuple[UserSequences, Tensor]:
    """What session-aware models read: the rows, with a session token before every session if ``features`` has ST.

    ``n_items`` counts the padding; ``features`` are the run's ``session_features`` by default. Where each of the ``N``
    rows went comes back too, int64 ``[N]``.
    """
    if "ST" not in (config["session_features"] or () if features is None else features):
        return sequences, torch.arange(len(sequences.items))
    return insert_session_tokens(sequences, session_token(n_items))


def token_batch(tokens: UserSequences, users: Tensor, ends: Tensor, length: int, mask: int | None) -> dict[str, Tensor]:
    """Input of a session-aware model: the latest ``length``, ``L``, tokens of each user that precede ``ends``.

    Parameters
    ----------
    users, ends : Tensor
        int64 ``[B]``; ``ends`` are row numbers of ``tokens``, exclusive.
    mask : int or None
        For inference ``ends`` points behind the row to be predicted: its token is replaced by ``mask``,
        while its session and its time stay, as the model is given when the next interaction happens and
        whether it opens a session (section 3.5 of the paper).

    Returns
    -------
    dict
        ``item_seq``, ``session_seq``, ``time_seq``: int64 ``[B, L]``, 0 at padding.
    """
    rows = ends.unsqueeze(1) + torch.arange(-length, 0, device=ends.device)  # padding first
    is_row = rows >= tokens.offsets[users].unsqueeze(1)
    rows *= is_row
    item_seq = tokens.items[rows] * is_row
    if mask is not None:
        item_seq[:, -1] = mask
    return {
        "item_seq": item_seq,
        "session_seq": tokens.sessions[rows] * is_row,
        "time_seq": tokens.times[rows] * is_row,
    }


def batch_layout(config: Any) -> str:
    """``"tokens"`` or ``"prefix"``, what the model class asks for."""
    return str(getattr(config["model_class"], "batch_layout", "prefix"))


def input_length(config: Any) -> int:
    """Columns of a batch, ``L``: items, and what a session-aware model reads beside them."""
    return int(config["MAX_ITEM_LIST_LENGTH"]) + int(getattr(config["model_class"], "extra_tokens", 0))


def input_batch(
    config: Any,
    n_items: int,
    sequences: UserSequences,
    users: Tensor,
    ends: Tensor,
    features: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """Input of the run's model to predict the rows ``ends``, in its layout; ``features`` as `lay_out` takes them."""
    if batch_layout(config) == "prefix":
        return prefix_batch(config, sequences, users, ends)
    tokens, places = lay_out(config, n_items, sequences, features)
    return token_batch(tokens, users, places[ends] + 1, input_length(config), mask_token(n_items))
