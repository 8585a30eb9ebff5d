"""`Recommender`: raw histories in, raw recommendations out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack, overload

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_session.data.batches import input_batch
from recbole_session.data.loaders import evaluation_transform
from recbole_session.errors import InputError
from recbole_session.evaluator.scores import item_scores
from recbole_session.inference.answers import Recommendation, best_items
from recbole_session.inference.histories import Histories, History, Item, NewSession, Request, Time, gather_histories
from recbole_session.run.run import Run
from recbole_session.run.vocabulary import Vocabulary

K = TypeVar("K", str, int)


class _Options(TypedDict, total=False):
    """What `Recommender.recommend` takes whatever the form of the histories."""

    new_session: NewSession | Sequence[NewSession]
    k: int
    exclude_seen: bool
    among: Sequence[Item] | None


class Recommender:
    """A trained model that answers on raw ids, ``batch_size`` histories per forward pass; `load` makes it.

    The model is in evaluation mode; configuration and vocabulary are those of its run.
    """

    def __init__(self, model: Any, config: Any, vocabulary: Vocabulary) -> None:
        self.model, self.config, self.vocabulary = model, config, vocabulary
        self.batch_size = 256
        self.item_ids = {item: number for number, item in enumerate(vocabulary.items, start=1)}
        self.user_ids = {user: number for number, user in enumerate(vocabulary.users, start=1)}
        self._counts = torch.tensor([0, *vocabulary.item_counts], dtype=torch.float64)
        self._transform = evaluation_transform(config)

    @overload
    def recommend(
        self, history: Mapping[K, History], now: Time | Sequence[Time | None] | None = None, **options: Unpack[_Options]
    ) -> dict[K, Recommendation]: ...

    @overload
    def recommend(
        self, history: History, now: Time | None = None, *, user: Item | None = None, **options: Unpack[_Options]
    ) -> Recommendation: ...

    @overload
    def recommend(
        self,
        history: Sequence[History],
        now: Time | Sequence[Time | None] | None = None,
        *,
        user: Sequence[Item | None] | None = None,
        **options: Unpack[_Options],
    ) -> list[Recommendation]: ...

    def recommend(
        self,
        history: Any,
        now: Any = None,
        *,
        new_session: Any = "auto",
        k: int = 10,
        exclude_seen: bool = True,
        among: Sequence[Item] | None = None,
        user: Any = None,
    ) -> Any:
        """Recommend what comes next after a history, or after each of several.

        Parameters
        ----------
        history : list of tuple, list of such lists, or dict of such lists by user
            Events ``(item, time)`` in any order, with raw ids. Where the training data had sessions of its
            own, events may be ``(item, time, session)``; else a session ends with a silence of more than the
            run's ``session_gap``. Times are seconds (Unix, UTC) or datetimes (UTC if they name no zone).
            Events of unknown items are left out and counted.
        now : int or datetime, optional
            The moment of the recommendation, of one for all histories or of each; by default it is not known.
        new_session : bool or "auto"
            Whether the user opens a new session now. ``"auto"``: if ``now`` is further than ``session_gap``
            from the last event. Models without session features answer the same either way.
        k : int
            How many items.
        exclude_seen : bool
            Leave out the items of the history.
        among : list, optional
            Recommend only these items; those the model does not know are left out.
        user : optional
            Raw id, for models that learn a vector per user; a user unknown or not named is an average one.
            The keys of a dict do the same.

        Returns
        -------
        Recommendation, list of Recommendation, or dict of Recommendation by user

        Raises
        ------
        InputError
            For a history, a time or an argument that is none.
        """
        histories = None
        if isinstance(history, Mapping):
            histories, user = list(history.values()), list(history)
        elif not isinstance(history, Sequence) or isinstance(history, str):
            raise InputError(f"history is a {type(history).__name__}; allowed: a list of (item, time), or several")
        elif history and all(map(_is_history, history)):
            histories = list(history)
        if histories is None:
            return self.answer([Request(history, now, new_session, user=user)], k, exclude_seen, among)[0]
        nows, sessions, users = (
            _one_each(value, len(histories), name)
            for value, name in ((now, "now"), (new_session, "new_session"), (user, "user"))
        )
        names = [f"history {place}" if u is None else f"the history of user {u!r}" for place, u in enumerate(users)]
        requests = [Request(*parts) for parts in zip(histories, nows, sessions, names, users, strict=True)]
        answers = self.answer(requests, k, exclude_seen, among)
        return dict(zip(history, answers, strict=True)) if isinstance(history, Mapping) else answers

    def answer(
        self, requests: Sequence[Request], k: int = 10, exclude_seen: bool = True, among: Sequence[Item] | None = None
    ) -> list[Recommendation]:
        """Answer requests, `batch_size` at a time; arguments as in `recommend`."""
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise InputError(f"k is {k!r}; allowed: a whole number from 1, e.g. 10")
        allowed = self._allowed(among)
        answers: list[Recommendation] = []
        for start in range(0, len(requests), self.batch_size):
            part = requests[start : start + self.batch_size]
            answers += self._answer_batch(part, k, exclude_seen, allowed)
        return answers

    def _allowed(self, among: Sequence[Item] | None) -> Tensor:
        """Which items may be recommended, bool ``[n_items]``."""
        allowed = torch.ones(self.vocabulary.n_items, dtype=torch.bool)
        if among is not None:
            if isinstance(among, str):
                raise InputError(f"among is {among!r}; allowed: a list of raw item ids")
            known = [self.item_ids[str(item)] for item in among if str(item) in self.item_ids]
            if not known:
                raise InputError(f"among names {len(among)} items and the model knows none of them; name its raw ids")
            allowed[:] = False
            allowed[known] = True
        allowed[0] = False  # padding
        return allowed

    def _answer_batch(
        self, requests: Sequence[Request], k: int, exclude_seen: bool, allowed: Tensor
    ) -> list[Recommendation]:
        histories = gather_histories(requests, self.item_ids, self.config["session_gap"])
        k = min(k, self.vocabulary.n_items - 1)
        items = torch.zeros(len(requests), k, dtype=torch.int64)
        scores = torch.empty(len(requests), k, dtype=torch.float64)
        if len(histories.answered) < len(requests):
            items[:], scores[:] = best_items(self._counts.masked_fill(~allowed, float("-inf"))[None], k)
        if len(histories.answered):
            answered = torch.from_numpy(histories.answered)
            found = self.scores(self.batch(histories))
            found[:, ~allowed.to(found.device)] = float("-inf")
            if exclude_seen:
                owners = torch.arange(len(answered)).repeat_interleave(histories.sequences.lengths)
                found[owners, histories.sequences.items] = float("-inf")
            best, values = best_items(found, k)
            items[answered], scores[answered] = best.cpu(), values.double().cpu()
        return self._tell(items, scores, histories)

    def _tell(self, items: Tensor, scores: Tensor, histories: Histories) -> list[Recommendation]:
        """Turn tensors ``[R, k]`` into recommendations by raw id."""
        by_model = set(histories.answered.tolist())
        names, titles = self.vocabulary.items, self.vocabulary.titles
        counts = (scores > float("-inf")).sum(1).tolist()
        return [
            Recommendation(
                items=[names[item - 1] for item in row[:count]],
                scores=values[:count],
                source="model" if index in by_model else "popular",
                new_session=bool(histories.opens_session[index]),
                skipped=int(histories.skipped[index]),
                titles=[titles[item - 1] for item in row[:count]] if titles else [],
            )
            for index, (row, values, count) in enumerate(zip(items.tolist(), scores.tolist(), counts, strict=True))
        ]

    @torch.no_grad()
    def scores(self, batch: Interaction) -> Tensor:
        """Scores of all items after each of the ``n`` histories of a batch, ``[n, n_items]``; column 0 is padding."""
        batch = batch.to(self.config["device"])
        return item_scores(self.model, batch, self.vocabulary.n_items, self.config["ITEM_ID_FIELD"])

    def batch(self, histories: Histories, features: Sequence[str] | None = None) -> Interaction:
        """Cut the model's input from histories, as `SessionDataset` cuts it for the evaluation.

        ``features``, by default the run's ``session_features``, says whether there are session tokens.
        """
        sequences, targets = histories.sequences, histories.targets
        rows, n_items = torch.arange(len(targets)), self.vocabulary.n_items
        columns = {
            self.config["USER_ID_FIELD"]: torch.tensor([self.user_ids.get(str(user), 0) for user in histories.users]),
            self.config["ITEM_ID_FIELD"]: torch.zeros_like(targets),
        }
        columns |= input_batch(self.config, n_items, sequences, rows, targets, features)
        return self._transform(self, Interaction(columns))


def _is_history(part: Any) -> bool:
    """Whether this is a list of events, not an event."""
    if not isinstance(part, Sequence) or isinstance(part, str):
        return False
    return not part or (isinstance(part[0], Sequence) and not isinstance(part[0], str))


def _one_each(value: Any, count: int, name: str) -> list[Any]:
    """Spread one value for all over ``count`` histories, or check that there is one for each."""
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str):
        return [value] * count
    if len(value) != count:
        raise InputError(f"{name} has {len(value)} values for {count} histories; give one for all, or one for each")
    return list(value)


def load(run_folder: str | Path, model: type | None = None, device: str | torch.device = "cpu") -> Recommender:
    """Load a trained model to recommend with, without its dataset.

    Parameters
    ----------
    run_folder : path
        What ``run_session`` returned as ``run_folder``.
    model : type, optional
        The model's class, if it is neither this project's nor RecBole's.
    device : str or torch.device
        Where to compute.

    Raises
    ------
    InputError
        If the folder holds no run.
    """
    run = Run(run_folder, model_class=model)
    return Recommender(*run.model(device, refit=True), run.vocabulary)
