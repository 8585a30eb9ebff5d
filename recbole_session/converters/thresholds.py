"""Every number of the preprocessing, as data: name, default, meaning. Flags and SQL are made from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from recbole_session.errors import InputError

DAY = 86_400  # seconds; the paper's session gap

HELP = {
    "min_rating": "keep rows with at least this rating",
    "min_item_rows": "then drop items with fewer rows",
    "min_user_rows": "then drop users with fewer rows",
    "max_rows_per_user": "then keep each user's latest rows, at most this many",
    "session_gap": "a gap of more than this many seconds opens a new session",
    "min_sessions": "drop users with fewer sessions",
    "min_rows_per_session": "drop users with any session of fewer rows",
}


@dataclass(frozen=True)
class Thresholds:
    """The preprocessing's numbers; the defaults are what the paper uses for every dataset."""

    min_rating: float = -math.inf
    min_item_rows: int = 5
    min_user_rows: int = 5
    max_rows_per_user: int = 200
    session_gap: int = DAY  # seconds
    min_sessions: int = 2
    min_rows_per_session: int = 2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = -math.inf if field.name == "min_rating" else 0 if field.name == "session_gap" else 1
            whole = field.name == "min_rating" or (isinstance(value, int) and not isinstance(value, bool))
            # `not (value >= least)` also refuses NaN.
            if not whole or not (value >= least) or value > 2**53:
                kind = "a number" if field.name == "min_rating" else f"a whole number of at least {least}"
                raise InputError(f"--{field.name} is {value!r}, but must be {kind}.")


# "Everybody" means no step that drops users as such; rows still fall to the rating, item and length steps.
EVERYBODY = {"min_user_rows": 1, "min_sessions": 1, "min_rows_per_session": 1}


def resolve_thresholds(base: Thresholds, all_users: bool, given: dict[str, Any]) -> Thresholds:
    """Return a dataset's thresholds, loosened by ``--all_users``, overridden by what the user typed.

    Parameters
    ----------
    base
        The dataset's own thresholds (the paper's).
    all_users
        Replace the thresholds that drop users by 1.
    given
        Threshold names and values that were typed; None means not typed.

    Raises
    ------
    InputError
        If a value is out of its range.
    """
    typed = {name: value for name, value in given.items() if value is not None}
    if "min_rating" in typed and isinstance(typed["min_rating"], int):
        typed["min_rating"] = float(typed["min_rating"])  # 4 and 4.0 give the same card
    return replace(base, **({**EVERYBODY, **typed} if all_users else typed))
