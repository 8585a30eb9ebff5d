"""V-SKNN and VSTAN: neighbours among the training sessions, extended by the user's own past.

M. Ludewig and D. Jannach, "Evaluation of Session-based Recommendation Algorithms", UMUAI 28, 2018 (V-SKNN); D. Garg et
al., "Sequence and Time Aware Neighborhood for Session-based Recommendations: STAN", SIGIR 2019; S. Latifi, N. Mauro and
D. Jannach, "Session-aware Recommendation: A Surprising Quest for the State-of-the-art", Information Sciences 573, 2021
(extension and reminders); M. Ludewig, N. Mauro, S. Latifi and D. Jannach, "Empirical Analysis of Session-based
Recommendation Algorithms", UMUAI 31, 2021 (VSTAN).
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
    users: Array  # int64 [B]
    opened: Array  # int64 [B], time of the first row of the current session; the largest int64 where it has none


class Sessions(NamedTuple):
    """Training sessions in order of their ends."""

    places: csr_matrix  # [S, n_items], place of an item in the session from 1; of one that occurs again, its last
    ends: Array  # int64 [S], time of the last row
    users: Array  # int64 [S]
    item_weights: Array  # float64 [n_items], see `VSKNN.item_weight`


class VSKNN(SessionModel):
    r"""Scores items by the training sessions that resemble the current one.

    Training reads every training row, whatever ``MAX_ITEM_LIST_LENGTH``, which bounds the history alone.

    The query :math:`s` is the current session; where it has fewer than ``extend_length`` items, the user's earlier ones
    are put before it. Item :math:`i` at place :math:`p_i` of :math:`|s|` weighs :math:`w_i = p_i / |s|`. Among the
    ``sample_size`` most recent training sessions that share an item with it, the ``n_neighbors`` with the largest

    .. math:: \operatorname{sim}(s, n) = \sum_{i \in s \cap n} w_i

    are its neighbours, and an item scores

    .. math:: \operatorname{score}(j) = \sum_n \operatorname{sim}(s, n) \, \lambda(s, n) \, 1[j \in n]
              + \rho \, [j \in h] \, q_j

    with :math:`\lambda(s, n) = 1 / (1 + |s| - \max_{i \in s \cap n} p_i)`. The second term is the reminder: an item of
    the history :math:`h` gets ``reminder_weight`` (:math:`\rho`) times its place in :math:`h`, as a share of the
    history's length, :math:`q_j`. The part of the user's current session that is for training, as under leave one out,
    is no neighbour: it would be the most similar one, and has nothing new.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.n_neighbors, self.sample_size = config["n_neighbors"], config["sample_size"]
        self.extend_length, self.reminder_weight = config["extend_length"], config["reminder_weight"]
        self.placeholder = nn.Parameter(torch.zeros(1))  # RecBole's optimizer wants a parameter
        # Training rows by user and time: item, number of the session from 0, time, user.
        self.session_rows = torch.zeros(0, 4, dtype=torch.int64)
        self.other_parameter_name = ["session_rows"]
        self._dataset = dataset
        self._sessions: tuple[Tensor, Sessions] | None = None  # of which rows, and what `sessions` returns

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Read all training rows at the first batch; there is nothing to learn, so the loss is 0."""
        if not len(self.session_rows):
            self.session_rows = training_rows(self._dataset)
        return self.placeholder.sum() * 0

    def load_other_parameter(self, para: dict[str, Any] | None) -> None:
        """Take the sessions of a checkpoint; `ValueError` for other items than the catalogue's or a wrong numbering."""
        super().load_other_parameter(para)
        rows = self.session_rows
        if rows.dtype != torch.int64 or not ((rows[:, 0] > PADDING) & (rows[:, 0] < self.n_items)).all():
            raise ValueError(f"session_rows must be int64 and hold items from 1 to {self.n_items - 1}")
        steps = rows[:, 1].diff(prepend=rows.new_tensor([-1]))
        if not ((steps == 0) | (steps == 1)).all() or (steps[:1] == 0).any():
            raise ValueError("session_rows must number the sessions from 0")

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, ``[B, n_items]``, float32; 0 where no neighbour has an item."""
        columns = [interaction[name].cpu() for name in ("item_seq", "session_seq", "time_seq", self.USER_ID)]
        scores = self.reminders(columns[0])
        queries = self.queries(*columns)
        sessions = self.sessions()
        query, session, similarity = self.neighbors(queries, sessions)
        items_of = sessions.places[session]  # of every neighbour, [P, n_items]
        owners = np.repeat(np.arange(len(session)), np.diff(items_of.indptr))
        items = items_of.indices
        shared = queries.places[query[owners], items]  # place of the item in the query; 0 if not shared
        latest = np.zeros(len(session), dtype=np.int64)
        np.maximum.at(latest, owners, shared)
        gain = similarity * self.neighbor_weight(queries.lengths[query], latest)
        gain = gain[owners] * self.place_weight(items_of.data, shared == latest[owners], owners)
        gain *= sessions.item_weights[items]
        flat = np.bincount(query[owners] * self.n_items + items, gain, minlength=scores.size)
        scores += flat.reshape(scores.shape)
        scores[:, PADDING] = 0
        return torch.from_numpy(scores).float().to(interaction["item_seq"].device)

    def sessions(self) -> Sessions:
        """Training sessions, made of `session_rows` once."""
        if self._sessions is not None and self._sessions[0] is self.session_rows:
            return self._sessions[1]
        items, session, time, user = self.session_rows.cpu().numpy().T
        first = np.searchsorted(session, np.arange(session.max(initial=-1) + 1))
        last = np.append(first[1:], len(session)) - 1
        order = time[last].argsort(kind="stable")  # by ends; [S]
        number = np.empty_like(order)
        number[order] = np.arange(len(order))
        place = np.arange(len(session)) - first[session] + 1
        latest = np.lexsort((place, items, session))  # of an item that occurs again, the last place counts
        keep = latest[np.r_[np.diff(session[latest] * self.n_items + items[latest]) != 0, [True] * (len(latest) > 0)]]
        shape = (len(order), self.n_items)
        places = csr_matrix((place[keep], (number[session[keep]], items[keep])), shape=shape)
        sessions = Sessions(places, time[last][order], user[last][order], self.item_weight(places))
        self._sessions = (self.session_rows, sessions)
        return sessions

    def queries(self, item_seq: Tensor, session_seq: Tensor, time_seq: Tensor, users: Tensor) -> Queries:
        """Cut the queries from a batch; its last column is the item to be predicted."""
        tokens, length = item_seq[:, :-1], item_seq.size(1) - 1
        is_item = (tokens != PADDING) & (tokens < self.n_items)
        later = is_item.flip(1).long().cumsum(1).flip(1)  # items from here on
        is_current = is_item & (session_seq[:, :-1] == session_seq[:, -1:])
        taken = (is_current | (is_item & (later <= self.extend_length))).numpy()
        lengths = taken.sum(1)
        place = taken.cumsum(1)
        rows, columns = taken.nonzero()
        places = np.zeros((len(tokens), self.n_items), dtype=np.int64)
        places[rows, tokens.numpy()[rows, columns]] = place[rows, columns]  # the last assignment stays
        weights = csr_matrix(self.query_weight(places, np.maximum(lengths, 1)[:, None]) * (places > 0))
        known = torch.where(time_seq[:, -1] == UNKNOWN_TIME, time_seq[:, length - 1], time_seq[:, -1])
        opened = time_seq[:, :-1].masked_fill(~is_current, torch.iinfo(torch.int64).max).amin(1)
        return Queries(weights, places, lengths, known.numpy(), users.numpy(), opened.numpy())

    def neighbors(self, queries: Queries, sessions: Sessions) -> tuple[Array, Array, Array]:
        """Query, session and similarity of all neighbours, ``[P]`` each; of equal ones the more recent goes first."""
        shared = (sessions.places != 0).astype(np.float64)
        found = (queries.weights @ shared.T).tocsr()
        found.sort_indices()  # sessions from the oldest
        query = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
        session, similarity = found.indices, found.data
        is_own = (sessions.users[session] == queries.users[query]) & (sessions.ends[session] >= queries.opened[query])
        query, session, similarity = query[~is_own], session[~is_own], similarity[~is_own]
        is_recent = np.searchsorted(query, query, side="right") - np.arange(len(query)) <= self.sample_size
        query, session, similarity = query[is_recent], session[is_recent], similarity[is_recent]
        similarity = similarity * self.session_weight(sessions, queries.times[query], session)
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

    def session_weight(self, sessions: Sessions, times: Array, session: Array) -> Array:
        """Factor of the similarity to a session at the moment ``times``."""
        return np.ones(len(session))

    def neighbor_weight(self, lengths: Array, latest: Array) -> Array:
        """Factor of a neighbour whose latest item in the query is at place ``latest``."""
        return 1 / (1 + lengths - latest)

    def place_weight(self, places: Array, is_latest: Array, owners: Array) -> Array:
        """Factor of an item at a place of the neighbour; ``is_latest`` marks the item that the query saw last."""
        return np.ones(len(places))

    def item_weight(self, places: csr_matrix) -> Array:
        """Factor of every item, ``[n_items]``, by the sessions that have it."""
        return np.ones(self.n_items)


def training_rows(dataset: Any) -> Tensor:
    """Item, number of the session, time and user of every training row of a `SessionDataset`, int64 ``[N, 4]``."""
    sequences, is_trained = dataset.sequences, dataset.is_training_row()
    users = torch.arange(sequences.n_users).repeat_interleave(sequences.lengths)[is_trained]
    sessions = (sequences.starts_session().cumsum(0) - 1)[is_trained]
    sessions = sessions.unique_consecutive(return_inverse=True)[1]
    return torch.stack((sequences.items[is_trained], sessions, sequences.times[is_trained], users), dim=1)


class VSTAN(VSKNN):
    r"""V-SKNN with decays in place of its weights, STAN's among them, and a preference for rare items.

    An item of the query weighs :math:`e^{(p_i - |s|) / \lambda_1}`; a session that ended :math:`\Delta` seconds before
    the moment of the recommendation is as similar as the sum of these weights over :math:`\sqrt{|n|}`, times
    :math:`e^{-\Delta / \lambda_2}`; and an item counts :math:`e^{-|d| / \lambda_3}` where it stands :math:`d` places
    from the item that the query saw last. V-SKNN's :math:`\lambda(s, n)` becomes
    :math:`e^{(\max_{i \in s \cap n} p_i - |s|) / \lambda_4}`, and an item that :math:`S_j` of the :math:`S` training
    sessions have counts :math:`1 + \eta \ln(S / S_j)` times. ``query_decay``, ``session_decay`` (days), ``item_decay``
    and ``score_decay`` are :math:`\lambda_1` to :math:`\lambda_4`, and ``idf_weight`` is :math:`\eta`, 0 by default.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.query_decay, self.item_decay = config["query_decay"], config["item_decay"]
        self.score_decay, self.idf_weight = config["score_decay"], config["idf_weight"]
        self.session_decay = config["session_decay"] * 86_400

    def query_weight(self, places: Array, lengths: Array) -> Array:
        """See the class."""
        return np.exp((places - lengths) / self.query_decay)

    def session_weight(self, sessions: Sessions, times: Array, session: Array) -> Array:
        """See the class."""
        n_items = np.diff(sessions.places.indptr)[session]
        return np.exp(-np.maximum(times - sessions.ends[session], 0) / self.session_decay) / np.sqrt(n_items)

    def neighbor_weight(self, lengths: Array, latest: Array) -> Array:
        """See the class."""
        return np.exp((latest - lengths) / self.score_decay)

    def item_weight(self, places: csr_matrix) -> Array:
        """See the class; no neighbour has an item that no session has."""
        n_sessions = np.maximum(np.bincount(places.indices, minlength=self.n_items), 1)
        return 1 + self.idf_weight * np.log(max(places.shape[0], 1) / n_sessions)

    def place_weight(self, places: Array, is_latest: Array, owners: Array) -> Array:
        """See the class."""
        of_shared = np.zeros(owners.max() + 1 if len(owners) else 0)
        of_shared[owners[is_latest]] = places[is_latest]
        return np.exp(-np.abs(places - of_shared[owners]) / self.item_decay)
