"""What comes back: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recommendation:
    """What to show one user.

    Attributes
    ----------
    items : list of str
        Raw ids, best first; fewer than ``k`` where no more are left.
    scores : list of float
        The model's scores (logits) of these items; with ``source="popular"`` how many rows of the dataset
        hold the item.
    source : "model" or "popular"
        ``"popular"``: the history held no known item, and these are the most popular ones.
    new_session : bool
        Whether the answer is for the first item of a new session.
    skipped : int
        Events whose item the model does not know.
    """

    items: list[str]
    scores: list[float]
    source: Literal["model", "popular"]
    new_session: bool
    skipped: int
