"""Thresholds: what overrides what, and what is refused."""

import math

import pytest

from recbole_session.converters.datasets import DATASETS
from recbole_session.converters.preprocessing import Thresholds, resolve_thresholds
from recbole_session.errors import InputError


def test_the_papers_values():
    assert DATASETS["ml-1m"].thresholds == Thresholds(1.0, 5, 5, 200, 86400, 2, 2)
    assert DATASETS["ml-20m"].thresholds == Thresholds(4.0, 5, 5, 200, 86400, 2, 2)
    assert DATASETS["steam"].thresholds == Thresholds(-math.inf, 5, 5, 200, 86400, 2, 2)


def test_all_users_loosens_what_was_not_typed():
    resolved = resolve_thresholds(Thresholds(), True, {"min_sessions": 3, "min_user_rows": None})
    assert resolved == Thresholds(min_user_rows=1, min_sessions=3, min_rows_per_session=1)


def test_typed_values_win():
    assert resolve_thresholds(Thresholds(), False, {"session_gap": 60}).session_gap == 60


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_rating", math.nan),
        ("min_item_rows", 0),
        ("min_user_rows", -1),
        ("max_rows_per_user", 0),
        ("session_gap", -1),
        ("min_sessions", 1.5),
        ("min_rows_per_session", True),
        ("session_gap", 10**30),
    ],
)
def test_refused(name, value):
    with pytest.raises(InputError, match=f"--{name} is {value!r}"):
        resolve_thresholds(Thresholds(), False, {name: value})
