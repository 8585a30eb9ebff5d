"""The Transformer encoder of SessionBERT4Rec, read from top to bottom.

Shapes: ``B`` sequences, ``L`` tokens, ``d`` hidden size, ``h`` heads, ``d_T`` temporal dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TemporalEncoding(nn.Module):
    r"""Learnable encoding of time, equation (1) of the paper.

    .. math:: TE(t) = [\cos(\omega_1 t + \theta_1), \dots, \cos(\omega_{d_T} t + \theta_{d_T})]

    ``t`` counts seconds from the Unix epoch (UTC). The phase :math:`\omega t + \theta` of today's timestamps
    reaches :math:`10^9` rad, where neighbouring float32 numbers lie 64 rad apart; it is therefore computed
    from int64 seconds in float64 (error below :math:`10^{-6}` rad) and only its cosine is rounded to the
    model's dtype.

    Parameters
    ----------
    temporal_dim : int
        :math:`d_T`. Frequencies start at ``10 ** -linspace(0, 9, d_T)`` rad/s, from one radian a second to one
        in three decades; phases start at 0.
    """

    def __init__(self, temporal_dim: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(10 ** -torch.linspace(0, 9, temporal_dim))
        self.phases = nn.Parameter(torch.zeros(temporal_dim))

    def forward(self, times: Tensor) -> Tensor:
        """Encode ``times`` (int64 seconds ``[B, L]``) as ``[B, L, d_T]`` in [-1, 1]."""
        phases = times.double().unsqueeze(-1) * self.frequencies.double() + self.phases.double()  # [B, L, d_T]
        return torch.cos(phases).to(self.frequencies.dtype)


class SelfAttention(nn.Module):
    """Bidirectional self-attention, temporal (equation 2 of the paper) where ``temporal_dim`` > 0.

    One ``d_T x d_T`` projection with bias, shared by the queries, keys and heads of this layer, is
    concatenated to every head's query and key; attention is scaled by ``sqrt(d_head + d_T)``. Values stay as
    they are.
    """

    def __init__(self, hidden_size: int, n_heads: int, dropout: float, temporal_dim: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.temporal = nn.Linear(temporal_dim, temporal_dim) if temporal_dim else None

    def forward(self, states: Tensor, key_bias: Tensor, temporal: Tensor | None, n_queries: int) -> Tensor:
        """Attend from the last ``n_queries`` positions to all of them.

        Parameters
        ----------
        states : Tensor
            ``[B, L, d]``.
        key_bias : Tensor
            ``[B, 1, 1, L]``, 0 at tokens and -inf at padding.
        temporal : Tensor or None
            Temporal encoding ``[B, L, d_T]``.
        n_queries : int
            ``Q``, how many of the last positions ask.

        Returns
        -------
        Tensor
            ``[B, Q, d]``.
        """
        query, key, value = self._project(states, temporal, n_queries)
        d_head = value.size(-1)
        # torch's fused kernels want values as wide as keys: zeros are added here and cut off below.
        value = F.pad(value, (0, key.size(-1) - d_head)) if key.size(-1) > d_head else value
        context = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=key_bias.expand(-1, -1, n_queries, -1),
            dropout_p=self.dropout if self.training else 0.0,
        )  # scaled by the square root of the key's width
        context = context[..., :d_head].transpose(1, 2).flatten(2)  # [B, Q, d]
        return self.output(context)

    def weights(self, states: Tensor, key_bias: Tensor, temporal: Tensor | None, n_queries: int) -> Tensor:
        """How much each position is attended to, ``[B, h, Q, L]``, rows summing to 1; arguments as in `forward`."""
        query, key, _ = self._project(states, temporal, n_queries)
        logits = query @ key.transpose(-1, -2) / key.size(-1) ** 0.5  # [B, h, Q, L]
        return (logits + key_bias).softmax(-1)

    def _project(self, states: Tensor, temporal: Tensor | None, n_queries: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the last ``n_queries`` positions, keys and values of all, heads apart."""
        query = self._heads(self.query(states[:, -n_queries:]))  # [B, h, Q, d_head]
        key = self._heads(self.key(states))  # [B, h, L, d_head]
        value = self._heads(self.value(states))  # [B, h, L, d_head]
        if self.temporal is not None and temporal is not None:
            extra = self.temporal(temporal).unsqueeze(1).expand(-1, self.n_heads, -1, -1)  # [B, h, L, d_T]
            query = torch.cat((query, extra[:, :, -n_queries:]), dim=-1)  # [B, h, Q, d_head + d_T]
            key = torch.cat((key, extra), dim=-1)  # [B, h, L, d_head + d_T]
        return query, key, value

    def _heads(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # [B, L, d] -> [B, h, L, d_head]


class EncoderLayer(nn.Module):
    """Pre-norm Transformer layer: ``x + attention(norm(x))``, then ``x + feed_forward(norm(x))``."""

    def __init__(
        self,
        hidden_size: int,
        inner_size: int,
        n_heads: int,
        hidden_dropout: float,
        attention_dropout: float,
        layer_norm_eps: float,
        temporal_dim: int,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.attention = SelfAttention(hidden_size, n_heads, attention_dropout, temporal_dim)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden_size, inner_size),
            nn.GELU(approximate="tanh"),
            nn.Dropout(hidden_dropout),
            nn.Linear(inner_size, hidden_size),
        )
        self.dropout = nn.Dropout(hidden_dropout)

    def forward(self, states: Tensor, key_bias: Tensor, temporal: Tensor | None, n_queries: int) -> Tensor:
        """``[B, L, d]`` -> ``[B, n_queries, d]``; arguments as in `SelfAttention.forward`."""
        attended = self.attention(self.attention_norm(states), key_bias, temporal, n_queries)
        states = states[:, -n_queries:] + self.dropout(attended)
        return states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))
