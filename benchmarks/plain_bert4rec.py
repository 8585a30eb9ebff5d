"""The paper's model as one would write it first: the plain reference of the benchmarks and of their tests.

Every position of a padded ``[B, L]`` batch goes through the encoder and through the whole output layer, attention is
spelled out, and each candidate set is evaluated in a pass of its own. It is the same model as `SessionBERT4Rec`: it
loads its ``state_dict`` and gives its losses and scores. Shapes: ``B`` sequences, ``L`` tokens, ``d`` hidden size,
``h`` heads, ``d_T`` temporal dimension.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORED = -100  # target of the positions that the loss leaves out


class TemporalEncoding(nn.Module):
    """``cos(frequency * t + phase)``, equation (1) of the paper; float64 because ``t`` is about 10^9 seconds."""

    def __init__(self, temporal_dim: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(10 ** -torch.linspace(0, 9, temporal_dim))
        self.phases = nn.Parameter(torch.zeros(temporal_dim))

    def forward(self, times: Tensor) -> Tensor:
        """int64 seconds ``[B, L]`` -> ``[B, L, d_T]``."""
        return torch.cos(times.double().unsqueeze(-1) * self.frequencies.double() + self.phases.double()).float()


class Attention(nn.Module):
    """Temporal self-attention, equation (2) of the paper: ``softmax(Q K^T / sqrt) V`` step by step."""

    def __init__(self, hidden_size: int, n_heads: int, dropout: float, temporal_dim: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key, self.value, self.output = (nn.Linear(hidden_size, hidden_size) for _ in range(4))
        self.temporal = nn.Linear(temporal_dim, temporal_dim) if temporal_dim else None
        self.dropout = nn.Dropout(dropout)

    def heads(self, states: Tensor) -> Tensor:
        """``[B, L, d]`` -> ``[B, h, L, d_head]``."""
        return states.view(*states.shape[:2], self.n_heads, -1).transpose(1, 2)

    def forward(self, states: Tensor, is_token: Tensor, temporal: Tensor | None) -> Tensor:
        """``[B, L, d]``, bool ``[B, L]`` (False at padding), ``[B, L, d_T]`` -> ``[B, L, d]``."""
        query, key, value = self.heads(self.query(states)), self.heads(self.key(states)), self.heads(self.value(states))
        if self.temporal is not None:
            extra = self.temporal(temporal).unsqueeze(1).expand(-1, self.n_heads, -1, -1)  # [B, h, L, d_T]
            query, key = torch.cat((query, extra), dim=-1), torch.cat((key, extra), dim=-1)
        logits = query @ key.transpose(-1, -2) / math.sqrt(key.size(-1))  # [B, h, L, L]
        weights = logits.masked_fill(~is_token[:, None, None], -1e9).softmax(dim=-1)
        context = self.dropout(weights) @ value  # [B, h, L, d_head]
        return self.output(context.transpose(1, 2).reshape(states.shape))


class Layer(nn.Module):
    """Pre-norm Transformer layer."""

    def __init__(self, config: Mapping[str, Any], temporal_dim: int) -> None:
        super().__init__()
        hidden_size, eps = config["hidden_size"], config["layer_norm_eps"]
        self.attention_norm = nn.LayerNorm(hidden_size, eps=eps)
        self.attention = Attention(hidden_size, config["n_heads"], config["attn_dropout_prob"], temporal_dim)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=eps)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden_size, config["inner_size"]),
            nn.GELU(approximate="tanh"),
            nn.Dropout(config["hidden_dropout_prob"]),
            nn.Linear(config["inner_size"], hidden_size),
        )
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])

    def forward(self, states: Tensor, is_token: Tensor, temporal: Tensor | None) -> Tensor:
        """``[B, L, d]`` -> ``[B, L, d]``."""
        states = states + self.dropout(self.attention(self.attention_norm(states), is_token, temporal))
        return states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))


class PlainBERT4Rec(nn.Module):
    """The whole model; ``config`` holds the keys of SessionBERT4Rec, ``n_items`` counts the padding."""

    def __init__(self, config: Mapping[str, Any], n_items: int) -> None:
        super().__init__()
        features, hidden_size = config["session_features"], config["hidden_size"]
        temporal_dim = config["temporal_dim"] if "TSA" in features else 0
        self.n_items = n_items  # also the mask's token; n_items + 1 is the session token
        self.mask_ratio = config["mask_ratio"]
        self.max_session_segments = config["max_session_segments"] if "SSE" in features else 0
        self.item_embedding = nn.Embedding(n_items + (2 if "ST" in features else 1), hidden_size, padding_idx=0)
        self.position_embedding = nn.Embedding(config["MAX_ITEM_LIST_LENGTH"], hidden_size)
        self.segment_embedding = nn.Embedding(self.max_session_segments + 1, hidden_size, padding_idx=0)
        self.temporal_encoding = TemporalEncoding(temporal_dim) if temporal_dim else None
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])
        self.layers = nn.ModuleList(Layer(config, temporal_dim) for _ in range(config["n_layers"]))
        self.output = nn.Linear(hidden_size, n_items)

    def embed(self, item_seq: Tensor, session_seq: Tensor) -> Tensor:
        """Sum of the embeddings of token, position and session ``[B, L, d]``."""
        states = self.item_embedding(item_seq) + self.position_embedding.weight[-item_seq.size(1) :]
        if self.max_session_segments:
            age = session_seq[:, -1:] - session_seq  # 0 for the latest session
            segments = (self.max_session_segments - age).clamp(min=1)
            states = states + self.segment_embedding(segments.masked_fill(item_seq == 0, 0))
        return self.dropout(states)

    def forward(self, item_seq: Tensor, session_seq: Tensor, time_seq: Tensor) -> Tensor:
        """int64 ``[B, L]``, padding (item 0) first -> scores of every item at every position ``[B, L, n_items]``."""
        is_token = item_seq != 0
        states = self.embed(item_seq, session_seq)
        temporal = None if self.temporal_encoding is None else self.temporal_encoding(time_seq)
        for layer in self.layers:
            states = layer(states, is_token, temporal)
        return self.output(states)

    def mask_items(self, item_seq: Tensor) -> tuple[Tensor, Tensor]:
        """Cloze task: input ``[B, L]`` (80% mask, 10% random item, 10% kept) and targets, `IGNORED` elsewhere."""
        is_item = (item_seq > 0) & (item_seq < self.n_items)
        chosen = is_item & (torch.rand(item_seq.shape, device=item_seq.device) < self.mask_ratio)
        fate = torch.rand(item_seq.shape, device=item_seq.device)
        random_items = torch.randint_like(item_seq, 1, self.n_items)
        masked_seq = item_seq.masked_fill(chosen & (fate < 0.8), self.n_items)
        masked_seq = torch.where(chosen & (fate >= 0.9), random_items, masked_seq)
        return masked_seq, item_seq.masked_fill(~chosen, IGNORED)

    def loss(self, masked_seq: Tensor, targets: Tensor, session_seq: Tensor, time_seq: Tensor) -> Tensor:
        """Cross-entropy averaged over the positions whose target is not `IGNORED`."""
        logits = self(masked_seq, session_seq, time_seq)
        return F.cross_entropy(logits.view(-1, self.n_items), targets.view(-1), ignore_index=IGNORED)

    def calculate_loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Mask a batch and return its loss."""
        masked_seq, targets = self.mask_items(batch["item_seq"])
        return self.loss(masked_seq, targets, batch["session_seq"], batch["time_seq"])

    def full_sort_predict(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Scores at the last position ``[B, n_items]``, from the scores at all of them."""
        return self(batch["item_seq"], batch["session_seq"], batch["time_seq"])[:, -1]


@torch.no_grad()
def evaluate_pass(
    model: PlainBERT4Rec, batches: Iterable[Any], negatives: Tensor | None, user_field: str, item_field: str
) -> Tensor:
    """One pass for one candidate set: rank of each target, int64 ``[n]``, 1 is best, ties against the target.

    ``negatives`` is int64 ``[U, K]`` with 0 for none, or None for all items.
    """
    model.eval()
    device = next(model.parameters()).device
    ranks = []
    for batch in batches:
        targets = batch[item_field].unsqueeze(1).to(device)  # [B, 1]
        scores = model.full_sort_predict(batch.to(device))
        if negatives is None:
            candidates = torch.arange(model.n_items, device=device).expand(len(targets), -1)
        else:
            candidates = torch.cat((targets, negatives[batch[user_field].cpu()].to(device)), dim=1)
        at_least = scores.gather(1, candidates) >= scores.gather(1, targets)
        ranks.append((at_least & (candidates != 0)).sum(1).cpu())  # the target itself makes the 1
    return torch.cat(ranks)
