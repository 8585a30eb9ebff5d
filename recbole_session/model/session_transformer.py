"""What SessionBERT4Rec and SessionSASRec share: embeddings, features, encoder and output layer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recbole_session.data.batches import PADDING, UNKNOWN_TIME, mask_token, session_token
from recbole_session.model.contract import SessionModel
from recbole_session.model.dropout import Dropout
from recbole_session.model.encoder import EncoderLayer, TemporalEncoding, Times
from recbole_session.model.losses import item_loss
from recbole_session.model.pieces import plan_pieces

N_GAP_BUCKETS = 13  # 0: unknown; 1 to 12: see gap_buckets

Columns = tuple[Tensor, Tensor, Tensor]  # item_seq, session_seq and time_seq
LayerInput = tuple[Tensor, Tensor, Times | None]  # states, bias and times, see encoder.SelfAttention.forward


def columns_of(interaction: Any) -> Columns:
    """``item_seq``, ``session_seq`` and ``time_seq`` of a batch."""
    return interaction["item_seq"], interaction["session_seq"], interaction["time_seq"]


def session_segments(session_seq: Tensor, is_token: Tensor, max_session_segments: int) -> Tensor:
    """Ordinals of sessions counted from the most recent (section 3.3 of the paper), int64 ``[B, L]``.

    With ``m = max_session_segments`` they are ``m`` for the latest session, that of the last position, ``m - 1`` for
    the one before, ..., 1 for all older ones, and 0 at padding. ``session_seq``, int64 ``[B, L]``, grows by one from
    session to session; ``is_token``, bool ``[B, L]``, is False at padding.
    """
    age = session_seq[:, -1:] - session_seq
    return (max_session_segments - age).clamp(min=1) * is_token


def times_of_items(item_seq: Tensor, time_seq: Tensor, n_items: int) -> Tensor:
    """Time of the latest item at or before each position, int64 seconds ``[B, L]`` for two int64 ``[B, L]``.

    It is `UNKNOWN_TIME` at padding and where no item comes before; ``n_items`` counts the padding.
    """
    times = time_seq.masked_fill(item_seq == PADDING, UNKNOWN_TIME)
    return torch.where(item_seq == session_token(n_items), one_before(times), times)


def one_before(times: Tensor) -> Tensor:
    """Time at the position before each, int64 ``[B, L]`` -> ``[B, L]``; `UNKNOWN_TIME` at the first position."""
    return torch.cat((torch.full_like(times[:, :1], UNKNOWN_TIME), times[:, :-1]), dim=1)


def gap_buckets(since: Tensor, until: Tensor) -> Tensor:
    """Bucket of the gap between two moments (int64 seconds of any shape), on a logarithmic scale; int64.

    It is 0 where one of the moments is `UNKNOWN_TIME`, else ``1 + floor(log(1 + seconds) / 2)``. Bucket 1 holds gaps
    below 7 s, 4 those of 7 to 50 minutes, 7 those of 2 to 14 days.
    """
    is_known = (since != UNKNOWN_TIME) & (until != UNKNOWN_TIME)
    seconds = torch.where(is_known, until - since, 0).clamp(min=0)
    buckets = 1 + (seconds.double().log1p() / 2).long()
    return buckets.clamp(max=N_GAP_BUCKETS - 1) * is_known


class SessionTransformer(SessionModel):
    """A Transformer over tokens with any subset of the session features.

    Reads the keys ``n_layers initializer_range item_loss num_train_negatives gbce_calibration session_features
    max_session_segments temporal_dim tie_embeddings MAX_ITEM_LIST_LENGTH`` and those of `encoder.EncoderLayer`.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        features = config["session_features"]
        hidden_size = config["hidden_size"]
        temporal_dim = config["temporal_dim"] if "TSA" in features else 0
        self.max_session_segments = config["max_session_segments"] if "SSE" in features else 0
        self.item_loss = item_loss(config["item_loss"], config["num_train_negatives"], config["gbce_calibration"])

        vocabulary = session_token(self.n_items) + 1 if "ST" in features else mask_token(self.n_items) + 1
        self.item_embedding = nn.Embedding(vocabulary, hidden_size, padding_idx=PADDING)
        self.position_embedding = nn.Embedding(self.max_seq_length, hidden_size)
        # Row 0 is padding; without SSE it is the only row and stays unused, as in the paper's counts.
        self.segment_embedding = nn.Embedding(self.max_session_segments + 1, hidden_size, padding_idx=PADDING)
        self.gap_embedding = nn.Embedding(N_GAP_BUCKETS, hidden_size) if "GAP" in features else None
        self.temporal_encoding = TemporalEncoding(temporal_dim) if temporal_dim else None
        self.dropout = Dropout(config["hidden_dropout_prob"])
        self.layers = nn.ModuleList(EncoderLayer(config, temporal_dim) for _ in range(config["n_layers"]))
        if config["tie_embeddings"]:
            self.output = None
            self.output_bias = nn.Parameter(torch.zeros(self.n_items))
        else:
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

    def layer_input(self, columns: Columns, item_states: Tensor, **task: Tensor) -> LayerInput:
        """Input of the encoder.

        Parameters
        ----------
        columns : tuple of Tensor
            ``item_seq``, ``session_seq`` and ``time_seq``, int64 ``[B, L + extra_tokens]``. ``L`` may be smaller than
            ``MAX_ITEM_LIST_LENGTH``: the most recent position always takes the last position embedding.
        item_states : Tensor
            ``[B, L, d]``, embeddings of the first ``L`` tokens.
        **task : Tensor
            Columns of `draw_task` that change the input.
        """
        raise NotImplementedError

    def encode(
        self, columns: Columns, queries: Tensor | None = None, item_states: Tensor | None = None, **task: Tensor
    ) -> Tensor:
        """Hidden states of the last layer, ``[B, Q, d]``.

        Parameters
        ----------
        columns, item_states, task
            See `layer_input`; ``item_states`` are looked up where they are None.
        queries : Tensor or None
            int64 ``[B, Q]``, the positions whose states are wanted: the last layer is computed for them alone.
            None for all of them, in order.
        """
        return self.layers[-1](*self._input_of_last_layer(columns, item_states, **task), queries)

    def _input_of_last_layer(self, columns: Columns, item_states: Tensor | None = None, **task: Tensor) -> LayerInput:
        if item_states is None:
            item_states = self.item_embedding(self.input_tokens(columns[0]))
        states, bias, times = self.layer_input(columns, item_states, **task)
        for layer in self.layers[:-1]:
            states = layer(states, bias, times)
        return states, bias, times

    def input_tokens(self, item_seq: Tensor) -> Tensor:
        """The tokens that the encoder reads, without the `extra_tokens`, of which only the context is used."""
        return item_seq[:, : item_seq.size(1) - self.extra_tokens]

    def look_up(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Embeddings of several pieces of a batch, int64 ``[b, l]`` each -> ``[b, l, d]`` each.

        They are looked up together: every look-up has a gradient as large as the catalogue.
        """
        found = self.item_embedding(torch.cat([part.flatten() for part in parts]))
        pairs = zip(parts, found.split([part.numel() for part in parts]), strict=True)
        return [embedded.view(*part.shape, -1) for part, embedded in pairs]

    def output_factors(self) -> tuple[Tensor, Tensor]:
        """Weight ``[n_items, d]`` and bias ``[n_items]`` of the output layer."""
        if self.output is None:
            return self.item_embedding.weight[: self.n_items], self.output_bias
        return self.output.weight, self.output.bias

    def score_factors(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return states ``[B, d]`` of the item to be predicted, weight ``[n_items, d]`` and bias ``[n_items]``."""
        columns = columns_of(interaction)
        if torch.compiler.is_exporting():  # a graph has one shape for all rows
            states = self._last_states(columns)
        else:
            pieces = plan_pieces(self._lengths(columns[0]), torch.ones_like(columns[0][:, 0]))
            found = torch.cat([self._last_states(cut(columns, piece.tokens)) for piece in pieces])
            states = found[torch.cat([piece.rows for piece in pieces]).argsort()]
        return states, *self.output_factors()

    def _lengths(self, item_seq: Tensor) -> Tensor:
        """Tokens of each row, at least one of them read; int64 ``[B]``."""
        return (item_seq != PADDING).sum(1).clamp(min=1 + self.extra_tokens)

    def _last_states(self, columns: Columns) -> Tensor:
        """Hidden states of the last position, ``[B, d]``."""
        return self.encode(columns, self._last_position(columns))[:, 0]

    def _last_position(self, columns: Columns) -> Tensor:
        return torch.full_like(columns[0][:, :1], columns[0].size(1) - 1 - self.extra_tokens)  # [B, 1]

    def attention(self, interaction: Any) -> Tensor:
        """Attention of the last layer from the last position, averaged over the heads, ``[B, L + extra_tokens]``."""
        columns = columns_of(interaction)
        states, bias, times = self._input_of_last_layer(columns)
        last: Any = self.layers[-1]
        shares = last.attention.weights(last.attention_norm(states), bias, times, self._last_position(columns))
        return nn.functional.pad(shares.mean(1)[:, 0], (0, self.extra_tokens))


def cut(columns: Columns, index: Any) -> Columns:
    """The same part of every column."""
    item_seq, session_seq, time_seq = columns
    return item_seq[index], session_seq[index], time_seq[index]


def padding_bias(item_seq: Tensor, dtype: torch.dtype) -> Tensor:
    """Attention bias that hides the padding: ``[B, 1, L]``, 0 at tokens and -inf at padding."""
    bias = torch.zeros(item_seq.shape, dtype=dtype, device=item_seq.device)
    return bias.masked_fill(item_seq == PADDING, float("-inf")).unsqueeze(1)
