"""SessionBERT4Rec: BERT4Rec with session tokens, session segments and temporal self-attention.

"Exploiting Session Information in BERT-based Session-aware Sequential Recommendation", SIGIR 2022.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_session.model.dropout import Dropout
from recbole_session.model.layers import EncoderLayer, TemporalEncoding
from recbole_session.model.losses import item_loss
from recbole_session.model.pieces import places_of_true, plan_pieces

PADDING = 0


def mask_token(n_items: int) -> int:
    """Token of the cloze mask; ``n_items`` counts the padding, as RecBole's ``item_num`` does."""
    return n_items


def session_token(n_items: int) -> int:
    """Token that precedes every session when ST is on."""
    return n_items + 1


def session_segments(session_seq: Tensor, is_token: Tensor, max_session_segments: int) -> Tensor:
    """Ordinals of sessions counted from the most recent (section 3.3 of the paper).

    Parameters
    ----------
    session_seq : Tensor
        int64 ``[B, L]``, a number per token that grows by one from session to session; the last position is
        a token of the latest session.
    is_token : Tensor
        bool ``[B, L]``, True where there is a token, False at padding.
    max_session_segments : int
        ``m``.

    Returns
    -------
    Tensor
        int64 ``[B, L]``: ``m`` for the latest session, ``m - 1`` for the one before, ..., 1 for all that are
        older still, 0 at padding.
    """
    age = session_seq[:, -1:] - session_seq
    return (max_session_segments - age).clamp(min=1) * is_token


def mask_items(item_seq: Tensor, n_items: int, mask_ratio: float, ft_ratio: float = 0.0) -> tuple[Tensor, Tensor]:
    """Choose items for the cloze task and hide them: 80% mask, 10% random item, 10% kept.

    Parameters
    ----------
    item_seq : Tensor
        int64 ``[B, L]``, tokens; padding and session tokens are never chosen.
    n_items : int
        Number of items, padding included.
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


class SessionBERT4Rec(SequentialRecommender):
    """BERT4Rec with any subset of the three session methods; ``session_features: []`` is plain BERT4Rec.

    A batch is an `Interaction` with ``item_seq``, ``session_seq`` and ``time_seq``, int64 ``[B, L]``, the most
    recent token in the last column and padding (item 0) before the first. At inference the last column is
    the mask, with the session and the time of the item to be predicted.

    Parameters
    ----------
    config : SessionConfig
        Reads ``hidden_size n_layers n_heads inner_size hidden_dropout_prob attn_dropout_prob layer_norm_eps
        initializer_range mask_ratio ft_ratio item_loss num_train_negatives gbce_calibration session_features
        max_session_segments temporal_dim MAX_ITEM_LIST_LENGTH torch_compile``.
    dataset : SessionDataset
        Gives the number of items.
    """

    input_type = InputType.POINTWISE
    batch_layout = "tokens"  # which batches data.SessionDataset cuts for this model

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        features = config["session_features"]
        hidden_size = config["hidden_size"]
        temporal_dim = config["temporal_dim"] if "TSA" in features else 0
        self.max_session_segments = config["max_session_segments"] if "SSE" in features else 0
        self.mask_ratio = config["mask_ratio"]
        self.ft_ratio = config["ft_ratio"]
        loss = config["item_loss"] or "full_softmax"  # a subclass, whose name has no defaults, need not know the key
        self.item_loss = item_loss(loss, config["num_train_negatives"], config["gbce_calibration"])

        vocabulary = session_token(self.n_items) + 1 if "ST" in features else mask_token(self.n_items) + 1
        self.item_embedding = nn.Embedding(vocabulary, hidden_size, padding_idx=PADDING)
        self.position_embedding = nn.Embedding(self.max_seq_length, hidden_size)
        # Row 0 is padding; without SSE it is the only row and stays unused, as in the paper's counts.
        self.segment_embedding = nn.Embedding(self.max_session_segments + 1, hidden_size, padding_idx=PADDING)
        self.temporal_encoding = TemporalEncoding(temporal_dim) if temporal_dim else None
        self.dropout = Dropout(config["hidden_dropout_prob"])
        self.layers = nn.ModuleList(
            EncoderLayer(
                hidden_size=hidden_size,
                inner_size=config["inner_size"],
                n_heads=config["n_heads"],
                hidden_dropout=config["hidden_dropout_prob"],
                attention_dropout=config["attn_dropout_prob"],
                layer_norm_eps=config["layer_norm_eps"],
                temporal_dim=temporal_dim,
                is_compiled=bool(config["torch_compile"]),
            )
            for _ in range(config["n_layers"])
        )
        self.output = nn.Linear(hidden_size, self.n_items)
        self.initializer_range = config["initializer_range"]
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        """Draw weights from N(0, initializer_range), zero the biases and the padding rows."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])

    def encode(
        self,
        item_seq: Tensor,
        session_seq: Tensor,
        time_seq: Tensor,
        queries: Tensor | None = None,
        item_states: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of the last layer.

        Parameters
        ----------
        item_seq, session_seq, time_seq : Tensor
            int64 ``[B, L]``: tokens, session numbers, seconds (Unix UTC). ``L`` may be smaller than
            ``MAX_ITEM_LIST_LENGTH``: the most recent position always takes the last position embedding.
        queries : Tensor or None
            int64 ``[B, Q]``, the positions whose states are wanted: the last layer is computed for them alone.
            None for all of them, in order.
        item_states : Tensor or None
            ``[B, L, d]``, the embeddings of ``item_seq``, where they have been looked up.

        Returns
        -------
        Tensor
            ``[B, Q, d]``.
        """
        is_token = item_seq != PADDING  # [B, L]
        if item_states is None:
            item_states = self.item_embedding(item_seq)
        states = item_states + self.position_embedding.weight[-item_seq.size(1) :]  # [B, L, d]
        if self.max_session_segments:
            segments = session_segments(session_seq, is_token, self.max_session_segments)
            states = states + self.segment_embedding(segments)
        states = self.dropout(states)
        key_bias = torch.zeros(item_seq.shape, dtype=states.dtype, device=states.device)
        key_bias = key_bias.masked_fill(~is_token, float("-inf")).unsqueeze(1)  # [B, 1, L]
        temporal = None if self.temporal_encoding is None else self.temporal_encoding(time_seq)
        for layer in self.layers[:-1]:
            states = layer(states, key_bias, temporal)
        return self.layers[-1](states, key_bias, temporal, queries)

    def hide_items(self, interaction: Any) -> dict[str, Tensor]:
        """Draw the cloze task of a batch, ``masked_seq`` and ``chosen`` ``[B, L]``, see `mask_items`."""
        masked_seq, chosen = mask_items(interaction["item_seq"], self.n_items, self.mask_ratio, self.ft_ratio)
        return {"masked_seq": masked_seq, "chosen": chosen}

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of the chosen items (`losses`), averaged over them; 0 where the batch has none (scalar).

        A batch that holds the output of `hide_items` keeps it: several processes hide items in the whole batch
        before they share it out.
        """
        item_seq, session_seq, time_seq = (interaction[name] for name in ("item_seq", "session_seq", "time_seq"))
        hidden = interaction if "chosen" in interaction else self.hide_items(interaction)
        masked_seq, chosen = hidden["masked_seq"], hidden["chosen"]
        pieces = plan_pieces((item_seq != PADDING).sum(1), chosen.sum(1))
        masked = [masked_seq[piece.tokens] for piece in pieces]
        # Looked up together: every look-up has a gradient as large as the catalogue.
        looked_up = self.item_embedding(torch.cat([part.flatten() for part in masked]))
        item_states = looked_up.split([part.numel() for part in masked])
        states, targets = [], []
        for piece, part, embedded in zip(pieces, masked, item_states, strict=True):
            tokens = piece.tokens
            is_chosen = chosen[tokens]  # [b, length]
            places = places_of_true(is_chosen, piece.most_chosen)  # [b, Q]
            inputs = (part, session_seq[tokens], time_seq[tokens])
            found = self.encode(*inputs, places, embedded.view(*part.shape, -1))  # [b, Q, d]
            named = places_of_true(is_chosen.gather(1, places).flatten(), piece.n_chosen)
            states.append(found.flatten(0, 1).index_select(0, named))
            targets.append(item_seq[tokens].gather(1, places).flatten()[named])
        return self.item_loss(torch.cat(states), torch.cat(targets), self.output.weight, self.output.bias)

    def score_factors(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the factors of all scores, ``states @ weight.T + bias``, for the masked last position.

        Returns
        -------
        states, weight, bias : Tensor
            ``[B, d]``, ``[n_items, d]`` and ``[n_items]``.
        """
        item_seq, session_seq, time_seq = (interaction[name] for name in ("item_seq", "session_seq", "time_seq"))
        if torch.compiler.is_exporting():  # a graph has one shape for all rows
            states = self._last_states(item_seq, session_seq, time_seq)
        else:
            pieces = plan_pieces((item_seq != PADDING).sum(1), torch.ones_like(item_seq[:, 0]))
            tokens = [piece.tokens for piece in pieces]
            found = [self._last_states(item_seq[some], session_seq[some], time_seq[some]) for some in tokens]
            states = torch.cat(found)[torch.cat([piece.rows for piece in pieces]).argsort()]
        return states, self.output.weight, self.output.bias

    def _last_states(self, item_seq: Tensor, session_seq: Tensor, time_seq: Tensor) -> Tensor:
        """Hidden states of the last position, ``[B, d]``."""
        last = torch.full_like(item_seq[:, :1], item_seq.size(1) - 1)  # [B, 1]
        return self.encode(item_seq, session_seq, time_seq, last)[:, 0]

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items for the masked last position ``[B, n_items]``; column 0 is padding."""
        return F.linear(*self.score_factors(interaction))

    def predict(self, interaction: Any) -> Tensor:
        """Scores of one item per sequence, ``interaction[ITEM_ID_FIELD]`` ``[B]`` -> ``[B]``."""
        items = interaction[self.ITEM_ID]
        return self.full_sort_predict(interaction).gather(1, items.unsqueeze(1)).squeeze(1)
