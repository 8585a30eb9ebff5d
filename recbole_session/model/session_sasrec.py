"""SessionSASRec: a causal Transformer that knows the context of the item it predicts.

W.-C. Kang and J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, with the encoder and the session
methods of "Exploiting Session Information in BERT-based Session-aware Sequential Recommendation", SIGIR 2022.
"""

from typing import Any

import torch
from torch import Tensor

from recbole_session.data.batches import PADDING, UNKNOWN_TIME
from recbole_session.model.encoder import Times
from recbole_session.model.pieces import places_of_true, plan_pieces
from recbole_session.model.session_transformer import (
    Columns,
    LayerInput,
    SessionTransformer,
    columns_of,
    cut,
    gap_buckets,
    session_segments,
    times_of_items,
)


class SessionSASRec(SessionTransformer):
    r"""SASRec with any subset of the session features; ``session_features: []`` is the SASRec of the paper's Table 2.

    Every position predicts the next item from the tokens up to its own. It also knows the *context* of that item:
    whether it opens a session, and when it happens::

        tokens   a  b  S  c          S: session token
        targets  b  -  c  d          S is never a target
        ST       the token S says that c opens a session
        SSE      the segment of the position's own session plus that of the next item
        TSA      the time of the next item in the query, that of each token in its key
        GAP      the time from the latest item to the next one, in logarithmic buckets

    A batch has one column more than the encoder reads, see `SessionTransformer`: the context of position ``p`` comes
    from column ``p + 1``.

    Besides the keys of `SessionTransformer` it reads ``hide_context_ratio``, the share of training positions that are
    not given the context of the next item, so that the model also works where it is not known; and ``feature_scale``, a
    factor of the embeddings of positions, segments and gaps, which are added to those of the items.
    """

    extra_tokens = 1

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.hide_context_ratio, self.feature_scale = config["hide_context_ratio"], config["feature_scale"]

    def layer_input(self, columns: Columns, item_states: Tensor, **task: Tensor) -> LayerInput:
        """See `SessionTransformer.layer_input`; ``is_hidden`` (bool ``[B, L]``) is True where the context is hidden."""
        item_seq, session_seq, time_seq = columns
        tokens = item_seq[:, :-1]
        since = times_of_items(item_seq, time_seq, self.n_items)[:, :-1]  # [B, L]
        until = time_seq[:, 1:]
        if "is_hidden" in task:
            until = until.masked_fill(task["is_hidden"], UNKNOWN_TIME)
        scale = self.feature_scale
        states = item_states + scale * self.position_embedding.weight[-tokens.size(1) :]  # [B, L, d]
        if self.max_session_segments:
            segments = session_segments(session_seq, item_seq != PADDING, self.max_session_segments)
            own, following = segments[:, :-1], segments[:, 1:]
            if "is_hidden" in task:
                following = torch.where(task["is_hidden"], own, following)
            states = states + scale * self.segment_embedding(own) + scale * self.segment_embedding(following)
        if self.gap_embedding is not None:
            states = states + scale * self.gap_embedding(gap_buckets(since, until))
        times = None
        if self.temporal_encoding is not None:
            of_keys = time_seq[:, :-1]
            of_queries = torch.where(until == UNKNOWN_TIME, of_keys, until)
            times = Times(self.temporal_encoding(of_queries), self.temporal_encoding(of_keys))
        return self.dropout(states), causal_bias(tokens, states.dtype), times

    def draw_task(self, interaction: Any) -> dict[str, Tensor]:
        """Draw the positions whose context is hidden, ``is_hidden`` bool ``[B, L + 1]``; the last column is unused."""
        if not self.hide_context_ratio:
            return {}
        item_seq = interaction["item_seq"]
        return {"is_hidden": torch.rand(item_seq.shape, device=item_seq.device) < self.hide_context_ratio}

    def loss_terms(self, interaction: Any) -> int:
        """Number of items that have a token before them."""
        return int(self.is_target(interaction["item_seq"]).sum())

    def is_target(self, item_seq: Tensor) -> Tensor:
        """Where the next token is an item to be predicted: bool ``[B, L]`` for ``[B, L + 1]`` tokens."""
        following = item_seq[:, 1:]
        return (item_seq[:, :-1] != PADDING) & (following != PADDING) & (following < self.n_items)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of the next item at every position (`losses`), averaged over them; 0 where there is none (scalar)."""
        columns = columns_of(interaction)
        item_seq = columns[0]
        is_target = self.is_target(item_seq)
        task = interaction if "is_hidden" in interaction else self.draw_task(interaction)
        pieces = plan_pieces(self._lengths(item_seq), is_target.sum(1))
        parts = [self.input_tokens(item_seq[piece.tokens]) for piece in pieces]
        states, targets = [], []
        for piece, embedded in zip(pieces, self.look_up(parts), strict=True):
            some = cut(columns, piece.tokens)
            hidden = {"is_hidden": task["is_hidden"][piece.tokens][:, :-1]} if "is_hidden" in task else {}
            found = self.encode(some, item_states=embedded, **hidden)  # [b, length - 1, d]
            named = places_of_true(is_target[piece.rows, 1 - piece.length :].flatten(), piece.n_chosen)
            states.append(found.flatten(0, 1).index_select(0, named))
            targets.append(some[0][:, 1:].flatten()[named])
        return self.item_loss(torch.cat(states), torch.cat(targets), *self.output_factors())


def causal_bias(item_seq: Tensor, dtype: torch.dtype) -> Tensor:
    """Attention bias ``[B, L, L]``: 0 from a position to itself and to the tokens before it, -inf elsewhere.

    Padding attends to itself, so that no row of the softmax is empty.
    """
    length = item_seq.size(1)
    places = torch.arange(length, device=item_seq.device)
    is_later = places > places.unsqueeze(1)  # [L, L], True above the diagonal
    is_other = places != places.unsqueeze(1)
    hidden = is_later | ((item_seq == PADDING).unsqueeze(1) & is_other)
    return torch.zeros(hidden.shape, dtype=dtype, device=item_seq.device).masked_fill(hidden, float("-inf"))
