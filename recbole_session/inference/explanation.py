"""Why a model recommends what it does to one user: what each feature changes, and where it looks; also as a table."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, zip_longest

import torch
from recbole.data.interaction import Interaction

from recbole_session.errors import InputError
from recbole_session.inference.answers import best_items
from recbole_session.inference.histories import Histories, Request, gather_histories
from recbole_session.inference.recommender import Recommender
from recbole_session.model.contract import SessionModel
from recbole_session.report.tables import markdown, markdown_table

LATEST = 30  # events that the table lists


@dataclass(frozen=True)
class SeenEvent:
    """One event of the user's past.

    ``attention`` is the share of the last layer's, averaged over its heads, that the predicted position pays to the
    event; None if the event lies before what the model reads, or the model is not session-aware.
    """

    item: str
    time: int  # seconds, Unix UTC
    session: int  # number of the event's session, from 1
    attention: float | None


@dataclass(frozen=True)
class Explanation:
    """What `explain` found."""

    user: str
    now: int  # the moment of the answer, seconds
    new_session: bool  # whether it opens a session
    events: list[SeenEvent]  # in order of time
    # Top items, best first: "answer"; per feature of the model "without ST" and the like; and "session continues" and
    # "new session". For these two, the moment they are computed for, seconds.
    answers: dict[str, list[str]]
    moments: dict[str, int]
    other_attention: float  # share that goes to session tokens and to the predicted position itself
    titles: dict[str, str]  # names of the items above that have one, by raw id

    def named(self, item: str) -> str:
        """Name of an item with its raw id, or the id alone."""
        return f"{self.titles[item]} ({item})" if item in self.titles else item


def explain(recommender: Recommender, request: Request, k: int = 10) -> Explanation:
    """Explain the answer to one request.

    ``"without"`` a feature shows the same weights an input that lacks what the feature tells: without ST there
    are no session tokens, without SSE every token is in the latest session, without TSA or GAP everything happens at
    the moment of the answer. The model is not trained again, so this is what the feature does in this model,
    not what a model without it would do.

    The last two answers differ in the session alone if ``request.now`` is given. Otherwise the session continues
    at the moment of the last event, and the new one opens one second after ``session_gap`` has passed.

    The request has at least one known item; ``k`` is the length of the lists.
    """
    gap = recommender.config["session_gap"]
    histories = _gather(recommender, request)
    now = int(histories.sequences.times[-1 if request.now is not None else -2])
    moments = {"session continues": now, "new session": now + gap + 1 if request.now is None else now}
    batch = recommender.batch(histories)
    answers = {"answer": _top(recommender, histories, batch, k)}
    for feature in recommender.config["session_features"] or ():
        without = batch_without(recommender, histories, feature)
        answers[f"without {feature}"] = _top(recommender, histories, without, k)
    for name, moment in moments.items():
        variant = _gather(recommender, replace(request, now=moment, new_session=name == "new session"))
        answers[name] = _top(recommender, variant, recommender.batch(variant), k)
    events, other = _events(recommender, histories, batch)
    titles = recommender.vocabulary.titles_of({*chain(*answers.values()), *(event.item for event in events)})
    return Explanation(
        str(request.user), now, bool(histories.opens_session[0]), events, answers, moments, other, titles
    )


def _gather(recommender: Recommender, request: Request) -> Histories:
    histories = gather_histories([request], recommender.item_ids, recommender.config["session_gap"])
    if len(histories.answered) == 0:
        raise InputError(f"{request.name} holds no item that the model knows: there is nothing to explain")
    return histories


def batch_without(recommender: Recommender, histories: Histories, feature: str) -> Interaction:
    """The input of one history without what ``feature`` says."""
    features = [name for name in recommender.config["session_features"] if name != feature]
    batch = recommender.batch(histories, features)
    if column := {"SSE": "session_seq", "TSA": "time_seq", "GAP": "time_seq"}.get(feature):
        batch[column] = batch[column][:, -1:] * (batch["item_seq"] != 0)
    return batch


def _top(recommender: Recommender, histories: Histories, batch: Interaction, k: int) -> list[str]:
    """Top items outside the history."""
    scores = recommender.scores(batch)
    scores[0, histories.sequences.items] = float("-inf")  # and padding: the predicted row has item 0
    items, values = best_items(scores, min(k, recommender.vocabulary.n_items - 1))
    return [recommender.vocabulary.items[item - 1] for item in items[0, values[0] > float("-inf")].tolist()]


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


# ---- the table


def written_time(second: int) -> str:
    """Date and time of a Unix second, in UTC."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}"


def explanation_table(explanation: Explanation, written: Callable[[object], str] = markdown) -> str:
    """Return the explanation as Markdown: the answers side by side, then the latest events.

    ``written`` makes raw ids and names safe: for a file, or, with `report.tables.printable`, for a terminal.
    """
    session = "a new session" if explanation.new_session else "the session continues"
    n_events, n_sessions = len(explanation.events), explanation.events[-1].session
    return "\n\n".join(
        [
            f"# User {written(explanation.user)}",
            f"{n_events} events in {n_sessions} session(s); the answer is for {written_time(explanation.now)} UTC, "
            f"{session}.",
            "## Answers",
            _answer_table(explanation, written),
            _changes(explanation, written),
            f"## The latest {min(LATEST, n_events)} events",
            *_event_table(explanation, written),
        ]
    )


def _answer_table(explanation: Explanation, written: Callable[[object], str]) -> str:
    """A column per answer."""
    moments = explanation.moments
    columns = [[written(explanation.named(item)) for item in items] for items in explanation.answers.values()]
    header = [f"{name} ({written_time(moments[name])})" if name in moments else name for name in explanation.answers]
    rows = [[str(rank), *cells] for rank, cells in enumerate(zip_longest(*columns, fillvalue=""), start=1)]
    return markdown_table(["rank", *header], rows, align="---")


def _changes(explanation: Explanation, written: Callable[[object], str]) -> str:
    """A sentence per feature: which items it brings in, and how many of the others it moves."""
    answer = explanation.answers["answer"]
    lines = []
    for name, other in explanation.answers.items():
        if name.startswith("without "):
            gained = [item for item in answer if item not in other]
            moved = sum(item in other and answer.index(item) != other.index(item) for item in answer)
            items = ", ".join(written(explanation.named(item)) for item in gained) or "no item"
            others = len(answer) - len(gained)
            lines.append(
                f"- {name.removeprefix('without ')} brings in {items}, and moves {moved} of the other {others}."
            )
    return "\n".join(lines) or "The model has no session features to take away."


def _event_table(explanation: Explanation, written: Callable[[object], str]) -> list[str]:
    rows = [
        [
            written_time(event.time),
            str(event.session),
            written(explanation.named(event.item)),
            "" if event.attention is None else f"{event.attention:.4f}",
        ]
        for event in explanation.events[-LATEST:]
    ]
    table = markdown_table(["time (UTC)", "session", "item", "attention"], rows, align="---")
    if explanation.events[-1].attention is None:
        return [table]
    other = f"{explanation.other_attention:.4f}"
    return [table, f"Session tokens and the predicted position itself take {other} of the attention."]
