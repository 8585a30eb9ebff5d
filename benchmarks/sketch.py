"""A frozen first sketch of fast training, which the recipe of today is measured against.

The model of `plain_bert4rec`, with batches cut into length-sorted pieces of 16 rows, torch's fused attention over
values padded to the keys' width, and logits at the chosen positions only. Nothing here follows the package: it stays
as it is, so that later figures keep their yardstick.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from plain_bert4rec import IGNORED, Attention, Layer, PlainBERT4Rec
from torch import Tensor, nn

PIECE_SIZE = 16

# Sizes and training of the sketch on ml-1m-part; the learning rate, pieces and nothing else differ from the paper.
RECIPE = {
    "session_features": ["ST", "SSE", "TSA"],
    "max_session_segments": 3,
    "temporal_dim": 16,
    "hidden_size": 64,
    "inner_size": 256,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dropout_prob": 0.2,
    "attn_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "MAX_ITEM_LIST_LENGTH": 200,
    "mask_ratio": 0.2,
    "train_batch_size": 128,
    "learner": "adamw",
    "learning_rate": 0.003,
    "weight_decay": 0.05,
}


def attend(attention: Attention, states: Tensor, key_bias: Tensor, temporal: Tensor | None) -> Tensor:
    """Fused attention: ``[B, L, d]``, ``[B, 1, 1, L]`` (-inf at padding), ``[B, L, d_T]`` -> ``[B, L, d]``."""
    query, key, value = (
        attention.heads(linear(states)) for linear in (attention.query, attention.key, attention.value)
    )
    d_head = value.size(-1)
    if attention.temporal is not None:
        extra = attention.temporal(temporal).unsqueeze(1).expand(-1, attention.n_heads, -1, -1)
        query, key = torch.cat((query, extra), dim=-1), torch.cat((key, extra), dim=-1)
        value = F.pad(value, (0, key.size(-1) - d_head))
    context = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=key_bias.expand(-1, -1, states.size(1), -1),
        dropout_p=attention.dropout.p if attention.training else 0.0,
    )
    return attention.output(context[..., :d_head].transpose(1, 2).flatten(2))


def run_layer(layer: Layer, states: Tensor, key_bias: Tensor, temporal: Tensor | None) -> Tensor:
    """One layer ``[B, L, d]`` -> ``[B, L, d]``."""
    states = states + layer.dropout(attend(layer.attention, layer.attention_norm(states), key_bias, temporal))
    return states + layer.dropout(layer.feed_forward(layer.feed_forward_norm(states)))


class SketchBERT4Rec(PlainBERT4Rec):
    """The plain model's parameters with the sketch's computation of states and loss."""

    def initialize(self, std: float) -> None:
        """Draw weights from N(0, std), zero the biases and the padding rows."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx])

    def encode(self, item_seq: Tensor, session_seq: Tensor, time_seq: Tensor) -> Tensor:
        """Hidden states ``[B, L, d]``."""
        states = self.embed(item_seq, session_seq)
        key_bias = torch.zeros_like(states[..., 0]).masked_fill(item_seq == 0, float("-inf"))[:, None, None]
        temporal = None if self.temporal_encoding is None else self.temporal_encoding(time_seq)
        for layer in self.layers:
            states = run_layer(layer, states, key_bias, temporal)
        return states

    def loss(self, masked_seq: Tensor, targets: Tensor, session_seq: Tensor, time_seq: Tensor) -> Tensor:
        """As `PlainBERT4Rec.loss`; 0 where no position is chosen."""
        lengths, order = (masked_seq != 0).sum(1).sort()
        states, wanted = [], []
        for rows, piece_lengths in zip(order.split(PIECE_SIZE), lengths.split(PIECE_SIZE), strict=True):
            recent = (rows, slice(-max(int(piece_lengths[-1]), 1), None))
            chosen = targets[recent] != IGNORED
            states.append(self.encode(masked_seq[recent], session_seq[recent], time_seq[recent])[chosen])
            wanted.append(targets[recent][chosen])
        logits = self.output(torch.cat(states))
        return F.cross_entropy(logits, torch.cat(wanted), reduction="sum") / max(len(logits), 1)

    def full_sort_predict(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Scores at the last position ``[B, n_items]``."""
        return self.output(self.encode(batch["item_seq"], batch["session_seq"], batch["time_seq"])[:, -1])
