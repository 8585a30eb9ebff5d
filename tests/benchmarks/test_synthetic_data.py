from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_data import KINDS, LONG_GAPS, SHORT_GAPS, synthetic_rows, write_synthetic

from benchmarks.synthetic import EXPECTED, PROCEDURES, ROWS, ndcg_per_user, verdicts
from recbole_session.errors import InputError
from tests.conftest import BuildConfig, build_views


def steps(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per step of a user: from which item to which, in how many seconds, into a new session or not."""
    before = rows.groupby("user_id").shift()
    table = pd.DataFrame(
        {
            "source": before["item_id"],
            "target": rows["item_id"],
            "long": rows["timestamp"] - before["timestamp"] >= LONG_GAPS[0],
            "opens": rows["session_id"] != before["session_id"],
        }
    )
    return table[before["item_id"].notna()]


def targets_per_source(table: pd.DataFrame, *given: str) -> Counter[int]:
    """How many sources (with what else is given) lead to one, two, ... items."""
    return Counter(table.groupby(["source", *given])["target"].nunique().tolist())


@pytest.mark.parametrize(
    ("kind", "after_items", "after_sessions", "after_times"),
    [("session", 2, 1, 2), ("elapsed", 2, 2, 1), ("neither", 2, 2, 2)],
)
def test_each_kind_is_decided_by_what_its_name_says(
    kind: str, after_items: int, after_sessions: int, after_times: int
) -> None:
    """Two items may follow any item; the session, or the time, makes them one; or nothing does."""
    table = steps(synthetic_rows(kind, seed=3))
    assert targets_per_source(table) == {after_items: 20}
    assert targets_per_source(table, "opens") == {after_sessions: 40}
    assert targets_per_source(table, "long") == {after_times: 40}


@pytest.mark.parametrize("kind", KINDS)
def test_coins_are_fair_and_say_nothing_of_one_another(kind: str) -> None:
    table = steps(synthetic_rows(kind, n_users=2000, seed=1))
    shares = table.groupby(["opens", "long"]).size() / len(table)
    assert np.allclose(shares, 0.25, atol=0.01)
    first = table.groupby("source")["target"].transform("min") == table["target"]
    assert abs(first.mean() - 0.5) < 0.01


def test_kinds_of_one_seed_share_sessions_and_times_and_seeds_differ() -> None:
    session, elapsed, neither = (synthetic_rows(kind, seed=5) for kind in KINDS)
    for column in ("user_id", "session_id", "timestamp"):
        assert session[column].equals(elapsed[column])
        assert session[column].equals(neither[column])
    assert not session["item_id"].equals(neither["item_id"])
    assert session.equals(synthetic_rows("session", seed=5))
    assert not session["item_id"].equals(synthetic_rows("session", seed=6)["item_id"])


def test_sizes_and_gaps() -> None:
    rows = synthetic_rows("neither", n_users=7, n_items=12, n_rows=9)
    assert rows.shape == (63, 4)
    assert rows.groupby("user_id", sort=False).size().tolist() == [9] * 7
    gaps = rows.groupby("user_id")["timestamp"].diff().dropna()
    assert set(gaps) <= {*range(SHORT_GAPS[0], SHORT_GAPS[1] + 1), *range(LONG_GAPS[0], LONG_GAPS[1] + 1)}
    assert rows.groupby("session_id")["user_id"].nunique().max() == 1
    assert rows["item_id"].nunique() == 12


@pytest.mark.parametrize("n_items", [12, 20, 21, 22, 40])
def test_from_both_neighbours_the_coin_is_known_in_half_of_the_cases(n_items: int) -> None:
    rows = synthetic_rows("neither", n_users=500, n_items=n_items)
    items = rows["item_id"].to_numpy().reshape(500, -1)
    between: dict[tuple[str, str], set[str]] = {}
    for left, middle, right in zip(items[:, :-2].ravel(), items[:, 1:-1].ravel(), items[:, 2:].ravel(), strict=True):
        between.setdefault((left, right), set()).add(middle)
    assert Counter(map(len, between.values())) == {1: 2 * n_items, 2: n_items}  # 1 + 1 and 2 + 2; 1 + 2 is 2 + 1
    direct = set(zip(items[:, :-1].ravel(), items[:, 1:].ravel(), strict=True))
    assert not direct & set(between)  # no item is reached both in one step and in two


def test_other_kinds_and_too_few_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kind is 'both'; allowed: one of session, elapsed, neither"):
        write_synthetic("both", tmp_path)
    with pytest.raises(InputError, match="n_items is 11"):
        synthetic_rows("session", n_items=11)
    assert not list(tmp_path.iterdir())


def test_the_file_is_what_a_run_reads(tmp_path: Path, build_config: BuildConfig) -> None:
    path = write_synthetic("session", tmp_path / "data", n_users=5, n_rows=6, seed=2)
    assert path == tmp_path / "data" / "synthetic-session" / "synthetic-session.inter"
    sequences = build_views(build_config(dataset="synthetic-session"))["test"].sequences
    rows = synthetic_rows("session", n_users=5, n_rows=6, seed=2)
    assert sequences.lengths.tolist() == [0, 6, 6, 6, 6, 6]
    assert sequences.times.tolist() == rows["timestamp"].tolist()
    opens = rows["session_id"] != rows["session_id"].shift()
    assert sequences.starts_session().tolist() == opens.tolist()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", KINDS)
def test_session_methods_are_found_better_where_they_should_be_and_nowhere_else(kind: str, tmp_path: Path) -> None:
    """One repetition of benchmarks/synthetic.py, with three seeds, where results/synthetic.md has many."""
    rows = ["plain", *(EXPECTED[kind] or ROWS.keys() - {"plain"})]
    values = {
        name: np.stack([ndcg_per_user(kind, 0, ROWS[name], seed, tmp_path) for seed in (1, 2, 3)])
        for name in sorted(rows)
    }
    found = verdicts(values, PROCEDURES["users and seeds"])
    assert {name for name, verdict in found.items() if verdict == "better"} == set(EXPECTED[kind])
    best_without_the_coin = (1 + 1 / np.log2(3)) / 2
    assert values["plain"].mean() == pytest.approx(best_without_the_coin, abs=0.03)
