"""The Transformer encoder of the session-aware models, read from top to bottom.

Shapes: ``B`` sequences, ``L`` tokens, ``Q`` queries among them, ``d`` hidden size, ``h`` heads, ``d_T`` temporal
dimension.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from recbole_session.model.dropout import Dropout


class TemporalEncoding(nn.Module):
    r"""Learnable encoding of time, equation (1) of the paper.

    .. math:: TE(t) = [\cos(\omega_1 t + \theta_1), \dots, \cos(\omega_{d_T} t + \theta_{d_T})]

    ``t`` counts seconds from the Unix epoch (UTC). The phase :math:`\omega t + \theta` of today's timestamps
    reaches :math:`10^9` rad, where neighbouring float32 numbers lie 64 rad apart; it is therefore computed
    from int64 seconds in float64 (error below :math:`10^{-6}` rad) and only its cosine is rounded to the
    model's dtype. Frequencies start at ``10 ** -linspace(0, 9, d_T)`` rad/s, from one radian a second to one in three
    decades; phases start at 0.
    """

    def __init__(self, temporal_dim: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(10 ** -torch.linspace(0, 9, temporal_dim))
        self.phases = nn.Parameter(torch.zeros(temporal_dim))

    def forward(self, times: Tensor) -> Tensor:
        """Encode ``times`` (int64 seconds ``[B, L]``) as ``[B, L, d_T]`` in [-1, 1]."""
        phases = times.double().unsqueeze(-1) * self.frequencies.double() + self.phases.double()  # [B, L, d_T]
        return torch.cos(phases).to(self.frequencies.dtype)


def take(states: Tensor, places: Tensor | None) -> Tensor:
    """States ``[B, L, d]`` at some positions of each row, int64 ``[B, Q]`` or None for all -> ``[B, Q, d]``."""
    if places is None:
        return states
    first = states.size(1) * torch.arange(states.size(0), device=states.device).unsqueeze(1)  # [B, 1]
    return states.flatten(0, 1).index_select(0, (first + places).flatten()).unflatten(0, places.shape)


def rows_of(bias: Tensor, queries: Tensor | None) -> Tensor:
    """Rows of an attention bias for some queries: ``[B, L, L]`` -> ``[B, Q, L]``; ``[B, 1, L]`` stays."""
    if queries is None or bias.size(1) == 1:
        return bias
    return bias.gather(1, queries.unsqueeze(-1).expand(-1, -1, bias.size(2)))


class Times(NamedTuple):
    """Encoded times ``[B, L, d_T]``: of the interaction that a position predicts, and of the token at the position."""

    queries: Tensor
    keys: Tensor


class SelfAttention(nn.Module):
    """Self-attention, temporal (equation 2 of the paper) where ``temporal_dim`` > 0.

    One ``d_T x d_T`` projection with bias, shared by the queries, keys and heads of this layer, is
    concatenated to every head's query and key; attention is scaled by ``sqrt(d_head + d_T)``.
    """

    def __init__(self, hidden_size: int, n_heads: int, dropout: float, temporal_dim: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = Dropout(dropout)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.temporal = nn.Linear(temporal_dim, temporal_dim) if temporal_dim else None

    def forward(self, states: Tensor, bias: Tensor, times: Times | None, queries: Tensor | None = None) -> Tensor:
        """Attend from the positions ``queries`` to all positions: states ``[B, L, d]`` -> ``[B, Q, d]``.

        Parameters
        ----------
        bias : Tensor
            Added to the attention logits: 0 where a position may be attended to, -inf where it may not. ``[B, 1, L]``
            is one row for all queries; ``[B, L, L]`` has a row per position.
        queries : Tensor or None
            int64 ``[B, Q]``, the positions that attend; None for all of them, in order.
        """
        value = self._heads(self.value(states))  # [B, h, L, d_head]
        parts, bias = self._project(states, times, queries), rows_of(bias, queries)
        if states.device.type == "cpu":  # torch's fused attention is not faster here, and has no dropout
            context = self.dropout(self._weights(*parts, bias)) @ value  # [B, h, Q, d_head]
        else:
            context = self._fused(*parts, bias, value)
        return self.output(context.transpose(1, 2).flatten(2))

    def weights(self, states: Tensor, bias: Tensor, times: Times | None, queries: Tensor | None = None) -> Tensor:
        """Attention paid to each position, ``[B, h, Q, L]``, rows summing to 1; arguments as in `forward`."""
        return self._weights(*self._project(states, times, queries), rows_of(bias, queries))

    def _project(
        self, states: Tensor, times: Times | None, queries: Tensor | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """Queries ``[B, h, Q, d_head]``, keys ``[B, h, L, d_head]`` and what TSA adds to both, ``[B, Q or L, d_T]``."""
        query, key = self._heads(self.query(take(states, queries))), self._heads(self.key(states))
        if self.temporal is None or times is None:
            return query, key, None
        of_keys = self.temporal(times.keys)
        of_queries = of_keys if times.queries is times.keys else self.temporal(times.queries)
        return query, key, (take(of_queries, queries), of_keys)

    def _heads(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # [B, L, d] -> [B, h, L, d_head]

    def _weights(self, query: Tensor, key: Tensor, extra: tuple[Tensor, Tensor] | None, bias: Tensor) -> Tensor:
        shape = (*query.shape[:3], key.size(2))  # [B, h, Q, L]
        width, shared = query.size(-1), bias
        if extra is not None:
            # The temporal part of the product is the same for every head: it is computed once.
            width, shared = width + extra[1].size(-1), torch.baddbmm(bias, extra[0], extra[1].transpose(1, 2))
        logits = torch.baddbmm(
            shared.unsqueeze(1).expand(shape).flatten(0, 1),
            query.flatten(0, 1),
            key.flatten(0, 1).transpose(1, 2),
            beta=width**-0.5,
            alpha=width**-0.5,
        )  # [B h, Q, L]
        return logits.softmax(-1).view(shape)

    def _fused(
        self, query: Tensor, key: Tensor, extra: tuple[Tensor, Tensor] | None, bias: Tensor, value: Tensor
    ) -> Tensor:
        width = query.size(-1)
        if extra is not None:
            width += extra[1].size(-1)
            # The memory-efficient kernel wants a multiple of 8 numbers; zeros change no product.
            widened = (F.pad(more, (0, -width % 8)).unsqueeze(1).expand(-1, self.n_heads, -1, -1) for more in extra)
            query, key = (torch.cat(parts, dim=-1) for parts in zip((query, key), widened, strict=True))
        with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):  # cuDNN makes a plan for every shape
            return F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=bias.unsqueeze(1).expand(-1, -1, query.size(2), -1),
                dropout_p=self.dropout.p if self.training else 0.0,
                scale=width**-0.5,
            )


class EncoderLayer(nn.Module):
    """Pre-norm Transformer layer: ``x + attention(norm(x))``, then ``x + feed_forward(norm(x))``.

    Reads the keys ``hidden_size inner_size n_heads hidden_dropout_prob attn_dropout_prob layer_norm_eps torch_compile
    gated_layers``.
    """

    def __init__(self, config: Any, temporal_dim: int) -> None:
        super().__init__()
        hidden_size, inner_size = config["hidden_size"], config["inner_size"]
        hidden_dropout = config["hidden_dropout_prob"]
        self.is_compiled = bool(config["torch_compile"])
        self.attention_norm = nn.LayerNorm(hidden_size, eps=config["layer_norm_eps"])
        self.attention = SelfAttention(hidden_size, config["n_heads"], config["attn_dropout_prob"], temporal_dim)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=config["layer_norm_eps"])
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden_size, inner_size),
            nn.GELU(approximate="tanh"),
            Dropout(hidden_dropout),
            nn.Linear(inner_size, hidden_size),
        )
        self.dropout = Dropout(hidden_dropout)
        self.attention_gate = nn.Linear(hidden_size, hidden_size) if config["gated_layers"] else None
        self.feed_forward_gate = nn.Linear(hidden_size, hidden_size) if config["gated_layers"] else None

    def forward(self, states: Tensor, bias: Tensor, times: Times | None, queries: Tensor | None = None) -> Tensor:
        """``[B, L, d]`` -> ``[B, Q, d]``; arguments as in `SelfAttention.forward`."""
        attended = self.attention(self.attention_norm(states), bias, times, queries)
        finish = compiled_finish() if self.is_compiled else finish_layer
        return finish(self, take(states, queries).flatten(0, 1), attended.flatten(0, 1)).view_as(attended)


def finish_layer(layer: EncoderLayer, states: Tensor, attended: Tensor) -> Tensor:
    """What a layer does to each token by itself, after attention: ``[n, d]`` and ``[n, d]`` -> ``[n, d]``."""
    states = states + gated(layer.dropout(attended), states, layer.attention_gate)
    change = layer.dropout(layer.feed_forward(layer.feed_forward_norm(states)))
    return states + gated(change, states, layer.feed_forward_gate)


def gated(change: Tensor, states: Tensor, gate: nn.Module | None) -> Tensor:
    """Let a gate decide how much of a change goes in, as in LiGR layers."""
    return change if gate is None else change * torch.sigmoid(gate(states))


@cache
def compiled_finish() -> Callable[[EncoderLayer, Tensor, Tensor], Tensor]:
    """`finish_layer` through torch.compile, once for all layers and models.

    Only the number of its tokens changes from piece to piece, so that one graph for training and one for evaluation are
    enough. A whole layer would meet so many shapes that torch soon stops compiling it.
    """
    return torch.compile(finish_layer, dynamic=True)
