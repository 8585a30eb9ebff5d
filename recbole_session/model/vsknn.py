"""V-SKNN and VSTAN: neighbours among the training sessions, extended by the user's own past.

M. Ludewig and D. Jannach, "Evaluation of Session-based Recommendation Algorithms", UMUAI 28, 2018 (V-SKNN); D. Garg et
al., "Sequence and Time Aware Neighborhood for Session-based Recommendations: STAN", SIGIR 2019; S. Latifi, N. Mauro and
D. Jannach, "Session-aware Recommendation: A Surprising Quest for the State-of-the-art", Information Sciences 573, 2021
(extension and reminders).
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from recbole_session.data.batches import PADDING, UNKNOWN_TIME
from recbole_session.model.contract import SessionModel

Array = NDArray[Any]


class Queries(NamedTuple):
    """The latest items of some users; an item that occurs again counts where it was last."""

    weights: csr_matrix  # [B, n_items], weight of each item in the similarity
    places: Array  # int64 [B, n_items], place of an item in the query from 1, the oldest; 0 where the query lacks it
    lengths: Array  # int64 [B], items of each query
    times: Array  # int64 [B], moment of the recommendation, seconds, Unix UTC


class VSKNN(SessionModel):
    r"""Scores items by the training sessions that resemble the current one.

    The query :math:`s` is the current session; where it has fewer than ``extend_length`` items, the user's earlier ones
    are put before it. Item :math:`i` at place :math:`p_i` of :math:`|s|` weighs :math:`w_i = p_i / |s|`. Among the
    ``sample_size`` most recent training sessions that share an item with it, the ``n_neighbors`` with the largest

    .. math:: \operatorname{sim}(s, n) = \sum_{i \in s \cap n} w_i

    are its neighbours, and an item scores

    .. math:: \operatorname{score}(j) = \sum_n \operatorname{sim}(s, n) \, \lambda(s, n) \, 1[j \in n]
              + \rho \, [j \in h] \, q_j

    with :math:`\lambda(s, n) = 1 / (1 + |s| - \max_{i \in s \cap n} p_i)`. The second term is the reminder: an item of
    the history :math:`h` gets ``reminder_weight`` (:math:`\rho`) times its place in :math:`h`, as a share of the
    history's length, :math:`q_j`. Training reads every session once.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.n_neighbors, self.sample_size = config["n_neighbors"], config["sample_size"]
        self.extend_length, self.reminder_weight = config["extend_length"], config["reminder_weight"]
        self.placeholder = nn.Parameter(torch.zeros(1))  # RecBole's optimizer wants a parameter
        # Rows of the training sessions: item, session number, place in the session from 1, time.
        self.rows = torch.zeros(0, 4, dtype=torch.int64)
        self.other_parameter_name = ["rows"]
        self._sessions: tuple[int, Any, Any] = (-1, None, None)  # number of rows, then what `sessions` returns

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Keep the sessions of the batch; there is nothing to learn, so the loss is 0."""
        item_seq, session_seq, time_seq = (interaction[name].cpu() for name in ("item_seq", "session_seq", "time_seq"))
        opens = torch.ones_like(item_seq, dtype=torch.bool)
        opens[:, 1:] = (session_seq.diff(dim=1) != 0) | (item_seq[:, :-1] == PADDING)
        is_item = (item_seq != PADDING) & (item_seq < self.n_items)
        opens = opens[is_item]
        first = opens.nonzero()[:, 0]
        session = opens.long().cumsum(0) - 1
        place = torch.arange(len(opens)) - first[session] + 1
        n_before = int(self.rows[-1, 1]) + 1 if len(self.rows) else 0
        found = torch.stack((item_seq[is_item], session + n_before, place, time_seq[is_item]), dim=1)
        self.rows = torch.cat((self.rows, found))
        return self.placeholder.sum() * 0

    def load_other_parameter(self, para: dict[str, Any] | None) -> None:
        """Take the sessions of a checkpoint; `ValueError` if they hold anything but items of the catalogue."""
        super().load_other_parameter(para)
        items = self.rows[:, 0]
        if self.rows.dtype != torch.int64 or not ((items > PADDING) & (items < self.n_items)).all():
            raise ValueError(f"rows must be int64 and hold items from 1 to {self.n_items - 1}")

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, ``[B, n_items]``, float32; 0 where no neighbour has an item."""
        columns = [interaction[name].cpu() for name in ("item_seq", "session_seq", "time_seq")]
        scores = self.reminders(columns[0])
        queries = self.queries(*columns)
        matrix, ends = self.sessions()
        query, session, similarity = self.neighbors(queries, matrix, ends)
        items_of = matrix[session]  # of every neighbour, [P, n_items]
        owners = np.repeat(np.arange(len(session)), np.diff(items_of.indptr))
        items = items_of.indices
        shared = queries.places[query[owners], items]  # place of the item in the query; 0 if not shared
        latest = np.zeros(len(session), dtype=np.int64)
        np.maximum.at(latest, owners, shared)
        gain = similarity * self.neighbor_weight(queries.lengths[query], latest)
        gain = gain[owners] * self.item_weight(items_of.data, shared == latest[owners], owners)
        flat = np.bincount(query[owners] * self.n_items + items, gain, minlength=scores.size)
        scores += flat.reshape(scores.shape)
        scores[:, PADDING] = 0
        return torch.from_numpy(scores).float().to(interaction["item_seq"].device)

    def sessions(self) -> tuple[csr_matrix, Array]:
        """Training sessions in order of their ends: places of their items ``[S, n_items]``, and the ends ``[S]``."""
        count, matrix, ends = self._sessions
        if count == len(self.rows):
            return matrix, ends
        items, session, place, time = self.rows.cpu().numpy().T
        _, session = np.unique(session, return_inverse=True)
        ends = np.full(session.max(initial=-1) + 1, np.iinfo(np.int64).min)
        np.maximum.at(ends, session, time)
        order = ends.argsort(kind="stable")
        number = np.empty_like(order)
        number[order] = np.arange(len(order))
        latest = np.lexsort((place, items, session))  # of an item that occurs again, the last place counts
        keep = latest[np.r_[np.diff(session[latest] * self.n_items + items[latest]) != 0, [True] * (len(latest) > 0)]]
        shape = (len(order), self.n_items)
        matrix = csr_matrix((place[keep], (number[session[keep]], items[keep])), shape=shape)
        self._sessions = (len(self.rows), matrix, ends[order])
        return matrix, ends[order]

    def queries(self, item_seq: Tensor, session_seq: Tensor, time_seq: Tensor) -> Queries:
        """Cut the queries from a batch; its last column is the item to be predicted."""
        tokens, length = item_seq[:, :-1], item_seq.size(1) - 1
        is_item = (tokens != PADDING) & (tokens < self.n_items)
        later = is_item.flip(1).long().cumsum(1).flip(1)  # items from here on
        is_current = session_seq[:, :-1] == session_seq[:, -1:]
        taken = (is_item & (is_current | (later <= self.extend_length))).numpy()
        lengths = taken.sum(1)
        place = taken.cumsum(1)
        rows, columns = taken.nonzero()
        places = np.zeros((len(tokens), self.n_items), dtype=np.int64)
        places[rows, tokens.numpy()[rows, columns]] = place[rows, columns]  # the last assignment stays
        weights = csr_matrix(self.query_weight(places, np.maximum(lengths, 1)[:, None]) * (places > 0))
        known = torch.where(time_seq[:, -1] == UNKNOWN_TIME, time_seq[:, length - 1], time_seq[:, -1])
        return Queries(weights, places, lengths, known.numpy())

    def neighbors(self, queries: Queries, matrix: csr_matrix, ends: Array) -> tuple[Array, Array, Array]:
        """Query, session and similarity of all neighbours, ``[P]`` each; of equal ones the more recent goes first."""
        shared = (matrix != 0).astype(np.float64)
        found = (queries.weights @ shared.T).tocsr()
        found.sort_indices()  # sessions from the oldest
        query = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
        is_recent = found.indptr[query + 1] - np.arange(len(query)) <= self.sample_size
        query, session, similarity = query[is_recent], found.indices[is_recent], found.data[is_recent]
        similarity = similarity * self.session_weight(matrix, ends[session], queries.times[query], session)
        order = np.lexsort((-session, -similarity, query))
        query, session, similarity = query[order], session[order], similarity[order]
        is_near = np.arange(len(query)) - np.searchsorted(query, query) < self.n_neighbors
        return query[is_near], session[is_near], similarity[is_near]

    def reminders(self, item_seq: Tensor) -> Array:
        """Scores of the items of the history for having been there, ``[B, n_items]``."""
        tokens = item_seq[:, :-1].numpy()
        is_item = (tokens != PADDING) & (tokens < self.n_items)
        scores = np.zeros((len(tokens), self.n_items))
        rows, columns = is_item.nonzero()
        place = is_item.cumsum(1) / np.maximum(is_item.sum(1, keepdims=True), 1)
        scores[rows, tokens[rows, columns]] = self.reminder_weight * place[rows, columns]
        return scores

    # ---- the weights in which V-SKNN and VSTAN differ

    def query_weight(self, places: Array, lengths: Array) -> Array:
        """Weight of an item at a place of the query."""
        return places / lengths

    def session_weight(self, matrix: csr_matrix, ends: Array, times: Array, session: Array) -> Array:
        """Factor of the similarity to a session that ended at ``ends``."""
        return np.ones(len(session))

    def neighbor_weight(self, lengths: Array, latest: Array) -> Array:
        """Factor of a neighbour whose latest item in the query is at place ``latest``."""
        return 1 / (1 + lengths - latest)

    def item_weight(self, places: Array, is_latest: Array, owners: Array) -> Array:
        """Factor of an item at a place of the neighbour; ``is_latest`` marks the item that the query saw last."""
        return np.ones(len(places))


class VSTAN(VSKNN):
    r"""V-SKNN with STAN's decays in place of its weights.

    An item of the query weighs :math:`e^{(p_i - |s|) / \lambda_1}`; a session that ended :math:`\Delta` seconds before
    the moment of the recommendation is as similar as the sum of these weights over :math:`\sqrt{|n|}`, times
    :math:`e^{-\Delta / \lambda_2}`; and an item counts :math:`e^{-|d| / \lambda_3}` where it stands :math:`d` places
    from the item that the query saw last. ``query_decay``, ``session_decay`` (days) and ``item_decay`` are
    :math:`\lambda_1, \lambda_2, \lambda_3`.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.query_decay, self.item_decay = config["query_decay"], config["item_decay"]
        self.session_decay = config["session_decay"] * 86_400

    def query_weight(self, places: Array, lengths: Array) -> Array:
        """See the class."""
        return np.exp((places - lengths) / self.query_decay)

    def session_weight(self, matrix: csr_matrix, ends: Array, times: Array, session: Array) -> Array:
        """See the class."""
        n_items = np.diff(matrix.indptr)[session]
        return np.exp(-np.maximum(times - ends, 0) / self.session_decay) / np.sqrt(n_items)

    def neighbor_weight(self, lengths: Array, latest: Array) -> Array:
        """The query's own decay is in the similarity."""
        return np.ones(len(latest))

    def item_weight(self, places: Array, is_latest: Array, owners: Array) -> Array:
        """See the class."""
        of_shared = np.zeros(owners.max() + 1 if len(owners) else 0)
        of_shared[owners[is_latest]] = places[is_latest]
        return np.exp(-np.abs(places - of_shared[owners]) / self.item_decay)
