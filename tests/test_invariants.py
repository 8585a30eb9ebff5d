"""Datasets of any shape go the whole road, or are refused in one sentence."""

import json
import tempfile
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_session.config.session_config import SessionConfig
from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import build_loaders
from recbole_session.errors import InputError
from recbole_session.evaluator.ranking_evaluator import RankingEvaluator
from recbole_session.run.training import run_session
from tests.conftest import DAY, Row, WriteDataset, random_rows
from tests.processes import keys_of, only_run

pytestmark = pytest.mark.usefixtures("one_thread")


def write(base: Path, rows: list[Row]) -> None:
    path = base / "data" / "toy" / "toy.inter"
    path.parent.mkdir(parents=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def histories(rows: list[Row]) -> dict[str, list[str]]:
    """Items of every user in order of time, equal times in the order of the rows."""
    by_user: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for user, item, time in rows:
        by_user[str(user)].append((int(time), str(item)))
    return {user: [item for _, item in sorted(events, key=lambda event: event[0])] for user, events in by_user.items()}


def check_run(folder: Path, rows: list[Row], num_negatives: int, ks: list[int]) -> None:
    """What must hold for every dataset and every model."""
    result = json.loads((folder / "result.json").read_text())
    ranks = pd.read_csv(folder / "ranks.csv", dtype={"user_id": str, "item_id": str})
    events = histories(rows)
    n_items = len({item for items in events.values() for item in items})
    assert set(ranks["user_id"]) == {user for user, items in events.items() if len(items) >= 3}
    assert ranks["user_id"].is_unique
    for row in ranks.to_dict("records"):
        history = events[row["user_id"]]
        assert row["item_id"] == history[-1]
        outside = n_items - len(set(history))
        assert row["candidates_random"] == row["candidates_popular"] == min(num_negatives, outside) + 1
        assert row["candidates_all"] == n_items
        for name in ("random", "popular", "all"):
            assert 1 <= row[f"rank_{name}"] <= row[f"candidates_{name}"]
        assert row["rank_all"] >= max(row["rank_random"], row["rank_popular"])
    for metrics in (*result["test"].values(), *filter(None, result["valid"].values())):
        values = [[metrics[f"{name}@{k}"] for k in ks] for name in ("recall", "ndcg")]
        for growing in values:
            assert all(0 <= value <= 1 for value in growing)
            assert growing == sorted(growing)
        assert all(ndcg <= recall + 1e-12 for recall, ndcg in zip(*values, strict=True))


def go(base: Path, model: str, rows: list[Row], **keys: object) -> Path:
    """Run one epoch and check what must hold; the folder of the run."""
    values = {"epochs": 1, "eval_step": 1, "num_negatives": 5, "topk": [1, 3, 10], **keys}
    values = keys_of(base, model, **values)
    run_session(model, "toy", config_dict=values)
    folder = only_run(base)
    check_run(folder, rows, int(str(values["num_negatives"])), [1, 3, 10])
    return folder


ITEMS = st.sampled_from([f"i{number}" for number in range(25)])
TIMES = st.one_of(st.integers(0, 5), st.integers(900_000_000, 900_000_000 + 20 * DAY), st.just(4_000_000_000))
USERS = st.sampled_from([f"u{number}" for number in range(6)])
ROWS = st.lists(st.tuples(USERS, ITEMS, TIMES), min_size=1, max_size=60)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(rows=ROWS, model=st.sampled_from(["SessionBERT4Rec", "SASRec", "Pop"]))
def test_the_whole_road_on_any_dataset(rows: list[Row], model: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        write(base, rows)
        try:
            go(base, model, rows)
        except InputError as error:
            assert "\n" not in str(error)
            lengths = [len(items) for items in histories(rows).values()]
            n_items = len({item for _, item, _ in rows})
            full = max(len(set(items)) for items in histories(rows).values())
            assert max(lengths) < 3 or full == n_items, f"refused without need: {error}"


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(rows=ROWS)
def test_no_leak_and_negatives_outside_the_history(rows: list[Row]) -> None:
    """Every batch of every split holds what came before its targets, by an order made here from the rows."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), rows)
        for model in ("SessionBERT4Rec", "SessionSASRec", "SASRec"):
            try:
                check_batches(SessionConfig(model, "toy", config_dict=keys_of(Path(folder), model)), rows)
            except InputError as error:
                by_user = histories(rows).values()
                if "has no negative" in str(error):  # a user who knows the whole catalogue
                    n_items = len({item for _, item, _ in rows})
                    assert any(len(items) >= 3 and len(set(items)) == n_items for items in by_user)
                    continue
                longest = max(map(len, by_user))
                assert longest < 3
                wanted = "no row to test on" if longest == 2 else "no user with two interactions to train on"
                assert wanted in str(error)


def check_batches(config: SessionConfig, rows: list[Row]) -> None:
    dataset = SessionDataset(config)
    loaders = build_loaders(config, dataset)
    events = histories(rows)
    held_back = {user: {0: 0, 1: 0, 2: 0, 3: 1}.get(len(items), 2) for user, items in events.items()}
    for split, loader in zip(("train", "valid", "test"), loaders, strict=True):
        for batch in loader:
            users = dataset.id2token("user_id", batch["user_id"].numpy())
            sequences = batch["item_seq" if "item_seq" in batch else "item_id_list"]
            for row, (user, sequence) in enumerate(zip(users, sequences.tolist(), strict=True)):
                seen = [dataset.id2token("item_id", item) for item in sequence if 0 < item < dataset.item_num]
                items = events[user]
                training = items[: len(items) - held_back[user]]
                if split == "train" and "item_seq" in batch:
                    ends = range(2, len(training) + 1) if config["window_stride"] else [len(training)]
                    width = len(seen) if "ST" in config["session_features"] else sequences.shape[1]
                    assert seen in [training[max(0, end - width) : end] for end in ends]
                    continue
                target = dataset.id2token("item_id", int(batch["item_id"][row]))
                place = {"valid": len(items) - 2, "test": len(items) - 1}.get(split)
                if place is None and len(seen) == 8:  # the window may stand anywhere
                    windows = [training[max(0, end - 8) : end + 1] for end in range(1, len(training))]
                    assert [*seen, target] in windows
                    continue
                place = len(seen) if place is None else place
                assert [*seen, target] == items[place - len(seen) : place + 1]
                assert seen
                assert split != "train" or place < len(training)
    evaluator = RankingEvaluator(config, dataset)
    for name in ("random", "popular"):
        table = evaluator.negatives[name]
        assert table is not None
        for user, negatives in enumerate(table.tolist()):
            drawn = [dataset.id2token("item_id", item) for item in negatives if item]
            assert len(set(drawn)) == len(drawn)
            if user:
                assert not set(drawn) & set(events[dataset.id2token("user_id", user)])


OTHERS = random_rows(n_users=8, n_items=15)


@pytest.mark.parametrize("model", ["SessionBERT4Rec", "SASRec"])
@pytest.mark.parametrize(
    "special",
    [
        [("x", "i1", 5)],
        [("x", f"i{place}", 1000 + place) for place in range(6)],
        [("x", f"i{place * 7 % 15}", 60 * place) for place in range(10_000)],
        [("x", f"i{place}", 777) for place in range(9)],
        [("x", f"i{place}", 10_000 * DAY - place * DAY) for place in range(9)],
        [("x", "i1", 1), ("x", "i2", 2), ("x", "i3", 3), ("x", "only in test", 4)],
    ],
    ids=["one interaction", "one session", "10,000", "one timestamp", "out of order", "item only in test"],
)
def test_special_users(special: list[Row], model: str, tmp_path: Path) -> None:
    rows = [*OTHERS, *special]
    if len(special) == 10_000:  # who knows every item but one
        rows += [("y", f"j{place}", place) for place in range(3)]
    write(tmp_path, rows)
    go(tmp_path, model, rows)


def test_three_items_and_a_hundred_negatives(tmp_path: Path) -> None:
    rows: list[Row] = [(f"u{user}", item, place) for user in range(5) for place, item in enumerate("aab")]
    rows += [("v", "c", 0), ("v", "c", 1), ("v", "a", 2)]
    write(tmp_path, rows)
    ranks = pd.read_csv(go(tmp_path, "SessionBERT4Rec", rows, num_negatives=100) / "ranks.csv")
    assert set(ranks["candidates_random"]) == {2}
    assert set(ranks["candidates_all"]) == {3}


def test_a_user_who_knows_every_item_has_no_negatives(tmp_path: Path, write_dataset: WriteDataset) -> None:
    write_dataset([("u", item, place) for place, item in enumerate("abcabc")])
    with pytest.raises(InputError, match="candidate set 'random' has no negative for at least one user"):
        run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec"))
    keys = {"eval_candidates": ["all"], "valid_candidates": "all"}
    run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec", **keys))
