"""SessionBERT4Rec: BERT4Rec with session tokens, session segments, temporal self-attention and gaps.

"Exploiting Session Information in BERT-based Session-aware Sequential Recommendation", SIGIR 2022.
"""

from typing import Any

import torch
from torch import Tensor

from recbole_session.data.batches import PADDING, UNKNOWN_TIME, mask_token
from recbole_session.model.encoder import Times
from recbole_session.model.pieces import places_of_true, plan_pieces
from recbole_session.model.session_transformer import (
    Columns,
    LayerInput,
    SessionTransformer,
    columns_of,
    gap_buckets,
    one_before,
    padding_bias,
    session_segments,
    times_of_items,
)


def mask_items(item_seq: Tensor, n_items: int, mask_ratio: float, ft_ratio: float = 0.0) -> tuple[Tensor, Tensor]:
    """Choose items for the cloze task and hide them: 80% mask, 10% random item, 10% kept.

    Parameters
    ----------
    item_seq : Tensor
        int64 ``[B, L]``, tokens; padding and session tokens are never chosen. ``n_items`` counts the padding.
    mask_ratio : float
        Probability of every item to be chosen.
    ft_ratio : float
        Probability of a sequence to have its last item, and only that one, chosen and masked as at
        inference (RecBole's name; 0 in the paper).

    Returns
    -------
    masked_seq : Tensor
        int64 ``[B, L]``.
    chosen : Tensor
        bool ``[B, L]``, True where the model must name the item of ``item_seq``.
    """
    is_item = (item_seq != PADDING) & (item_seq < n_items)
    chosen = is_item & (torch.rand(item_seq.shape, device=item_seq.device) < mask_ratio)
    fate = torch.rand(item_seq.shape, device=item_seq.device)
    if ft_ratio > 0:
        last_only = torch.rand(len(item_seq), 1, device=item_seq.device) < ft_ratio  # [B, 1]
        chosen = torch.where(last_only, torch.zeros_like(chosen), chosen)
        chosen[:, -1:] |= last_only & is_item[:, -1:]
        fate = torch.where(last_only, torch.zeros_like(fate), fate)
    random_items = torch.randint(1, n_items, item_seq.shape, device=item_seq.device)
    masked_seq = torch.where(chosen & (fate < 0.8), mask_token(n_items), item_seq)
    masked_seq = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), random_items, masked_seq)
    return masked_seq, chosen


class SessionBERT4Rec(SessionTransformer):
    """BERT4Rec with any subset of the session features; ``session_features: []`` is plain BERT4Rec.

    It learns to name masked items from both sides. Besides the keys of `SessionTransformer` it reads ``mask_ratio``
    and ``ft_ratio``.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.mask_ratio = config["mask_ratio"]
        self.ft_ratio = config["ft_ratio"]

    def layer_input(self, columns: Columns, item_states: Tensor, **task: Tensor) -> LayerInput:
        """See `SessionTransformer.layer_input`. Every token, the mask too, carries its own session, time and gap."""
        item_seq, session_seq, time_seq = columns
        states = item_states + self.position_embedding.weight[-item_seq.size(1) :]  # [B, L, d]
        if self.max_session_segments:
            segments = session_segments(session_seq, item_seq != PADDING, self.max_session_segments)
            states = states + self.segment_embedding(segments)
        if self.gap_embedding is not None:
            item_times = times_of_items(item_seq, time_seq, self.n_items)
            states = states + self.gap_embedding(gap_buckets(one_before(item_times), item_times))
        times = None
        if self.temporal_encoding is not None:
            known = torch.where(time_seq == UNKNOWN_TIME, one_before(time_seq), time_seq)
            encoded = self.temporal_encoding(known)
            times = Times(encoded, encoded)
        return self.dropout(states), padding_bias(item_seq, states.dtype), times

    def draw_task(self, interaction: Any) -> dict[str, Tensor]:
        """Draw the cloze task of a batch, ``masked_seq`` and ``chosen`` ``[B, L]``, see `mask_items`."""
        masked_seq, chosen = mask_items(interaction["item_seq"], self.n_items, self.mask_ratio, self.ft_ratio)
        return {"masked_seq": masked_seq, "chosen": chosen}

    def loss_terms(self, interaction: Any) -> int:
        """Number of chosen items."""
        return int(interaction["chosen"].sum())

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of the chosen items (`losses`), averaged over them; 0 where the batch has none (scalar)."""
        item_seq, session_seq, time_seq = columns_of(interaction)
        task = interaction if "chosen" in interaction else self.draw_task(interaction)
        chosen = task["chosen"]
        pieces = plan_pieces((item_seq != PADDING).sum(1), chosen.sum(1))
        masked = [task["masked_seq"][piece.tokens] for piece in pieces]
        states, targets = [], []
        for piece, part, embedded in zip(pieces, masked, self.look_up(masked), strict=True):
            tokens = piece.tokens
            is_chosen = chosen[tokens]  # [b, length]
            places = places_of_true(is_chosen, piece.most_chosen)  # [b, Q]
            found = self.encode((part, session_seq[tokens], time_seq[tokens]), places, embedded)  # [b, Q, d]
            named = places_of_true(is_chosen.gather(1, places).flatten(), piece.n_chosen)
            states.append(found.flatten(0, 1).index_select(0, named))
            targets.append(item_seq[tokens].gather(1, places).flatten()[named])
        return self.item_loss(torch.cat(states), torch.cat(targets), *self.output_factors())
