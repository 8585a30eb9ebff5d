"""Why a model recommends what it does to one user: what each feature changes, and where it looks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from recbole.data.interaction import Interaction

from recbole_session.errors import InputError
from recbole_session.evaluator.scores import item_scores
from recbole_session.inference.histories import Histories, Request, gather_histories
from recbole_session.inference.recommender import Recommender
from recbole_session.inference.top_items import best_items
from recbole_session.model.contract import SessionModel


@dataclass(frozen=True)
class SeenEvent:
    """One event of the user's past.

    Attributes
    ----------
    item : str
    time : int
        Seconds, Unix UTC.
    session : int
        Number of the event's session, from 1.
    attention : float or None
        Share of the last layer's attention, averaged over its heads, that the predicted position pays to the
        event; None if the event lies before what the model reads, or the model is not session-aware.
    """

    item: str
    time: int
    session: int
    attention: float | None


@dataclass(frozen=True)
class Explanation:
    """What `explain` found.

    Attributes
    ----------
    user : str
    now : int
        The moment of the answer, seconds.
    new_session : bool
        Whether it opens a session.
    events : list of SeenEvent
        In order of time; empty if no item of the history is known.
    answers : dict of list of str
        Top items, best first: ``"answer"``; per feature of the model ``"without ST"`` and the like; and
        ``"session goes on"`` and ``"new session"``.
    moments : dict of int
        For the last two: the moment they are computed for, seconds.
    other_attention : float
        Share of the attention that goes to session tokens and to the predicted position itself.
    """

    user: str
    now: int
    new_session: bool
    events: list[SeenEvent]
    answers: dict[str, list[str]]
    moments: dict[str, int]
    other_attention: float


def explain(recommender: Recommender, user: str, request: Request, k: int = 10) -> Explanation:
    """Explain the answer to one request.

    ``"without"`` a feature shows the same weights an input that lacks what the feature tells: without ST there
    are no session tokens, without SSE every token is in the latest session, without TSA or GAP everything happens at
    the moment of the answer. The model is not trained again, so this is what the feature does in this model,
    not what a model without it would do.

    The last two answers differ in the session alone if ``request.now`` is given. Otherwise the session goes on
    at the moment of the last event, and the new one opens one second after ``session_gap`` has passed.

    Parameters
    ----------
    recommender : Recommender
    user : str
        Raw id.
    request : Request
        With at least one known item.
    k : int
        Length of the lists.
    """
    gap = recommender.config["session_gap"]
    histories = _gather(recommender, request)
    now = int(histories.sequences.times[-1 if request.now is not None else -2])
    moments = {"session goes on": now, "new session": now}
    if request.now is None:
        moments["new session"] = now + gap + 1
    both = {
        name: _gather(recommender, replace(request, now=moment, new_session=name == "new session"))
        for name, moment in moments.items()
    }
    batch = recommender.batch(histories, [user])
    answers = {"answer": _top(recommender, histories, batch, k)}
    for feature in recommender.config["session_features"] or ():
        batch = batch_without(recommender, histories, user, feature)
        answers[f"without {feature}"] = _top(recommender, histories, batch, k)
    for name, variant in both.items():
        answers[name] = _top(recommender, variant, recommender.batch(variant, [user]), k)
    events, other = _events(recommender, histories, batch)
    return Explanation(user, now, bool(histories.opens_session[0]), events, answers, moments, other)


def _gather(recommender: Recommender, request: Request) -> Histories:
    histories = gather_histories([request], recommender.item_ids, recommender.config["session_gap"])
    if len(histories.answered) == 0:
        raise InputError(f"{request.name} holds no item that the model knows: there is nothing to explain")
    return histories


def batch_without(recommender: Recommender, histories: Histories, user: str, feature: str) -> Interaction:
    """The input of one history without what ``feature`` says."""
    features = [name for name in recommender.config["session_features"] if name != feature]
    batch = recommender.batch(histories, [user], features)
    is_token = batch["item_seq"] != 0
    for name, column in (("SSE", "session_seq"), ("TSA", "time_seq"), ("GAP", "time_seq")):
        if feature == name:
            batch[column] = batch[column][:, -1:] * is_token
    return batch


def _top(recommender: Recommender, histories: Histories, batch: Interaction, k: int) -> list[str]:
    """Top items outside the history."""
    n_items = recommender.vocabulary.n_items
    with torch.no_grad():
        batch = batch.to(recommender.config["device"])
        scores = item_scores(recommender.model, batch, n_items, recommender.config["ITEM_ID_FIELD"])
    scores[0, histories.sequences.items] = float("-inf")  # and padding: the predicted row has item 0
    items, values = best_items(scores, min(k, n_items - 1))
    kept = items[0, values[0] > float("-inf")].tolist()
    return [recommender.vocabulary.items[item - 1] for item in kept]


@torch.no_grad()
def _events(recommender: Recommender, histories: Histories, batch: Interaction) -> tuple[list[SeenEvent], float]:
    """Events in order of time with their share of the attention, and the share of everything else."""
    sequences = histories.sequences
    shares: list[float | None] = [None] * (len(sequences.items) - 1)
    other = 0.0
    model = recommender.model
    attention = model.attention(batch.to(recommender.config["device"])) if isinstance(model, SessionModel) else None
    if attention is not None:
        item_seq = batch["item_seq"][0].cpu()
        is_event = (item_seq > 0) & (item_seq < recommender.vocabulary.n_items)
        read = attention[0].cpu()[is_event].tolist()  # of the latest events, oldest first
        shares[len(shares) - len(read) :] = read
        other = float(attention[0].cpu()[~is_event].sum())
    names = recommender.vocabulary.items
    sessions = (sequences.sessions - sequences.sessions[0] + 1).tolist()
    rows = zip(sequences.items[:-1].tolist(), sequences.times.tolist(), sessions, shares, strict=False)
    return [SeenEvent(names[item - 1], time, session, share) for item, time, session, share in rows], other
