"""What benchmarks/peers.py does without RecTools: its metric, the split it hands over, the points it keeps."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from peers import COLUMNS, chosen_test, ndcg, read_points, replace_points, split_rows, table, worst_lead

from recbole_session.data.dataset import SessionDataset
from recbole_session.evaluator.ranking_evaluator import RankingEvaluator
from tests.conftest import BuildConfig, WriteDataset, build_views, random_rows


def test_ndcg_of_ranks_by_hand() -> None:
    """Ranks 1, 3 and 10 gain 1, 1/2 and 1/log2(11); rank 11 is too late."""
    assert ndcg([1, 3, 10, 11]) == pytest.approx((1 + 0.5 + 1 / math.log2(11)) / 4)
    assert ndcg([2], k=1) == 0


def test_ndcg_is_the_evaluators(build_config: BuildConfig, write_dataset: WriteDataset) -> None:
    write_dataset(random_rows(n_users=40))
    config = build_config(metrics=["NDCG"], topk=[10], eval_candidates=["all"], valid_candidates="all")
    views = build_views(config)
    metrics = RankingEvaluator(config, views["test"]).metrics
    ranks = torch.arange(1, 21)
    assert ndcg(ranks.tolist()) == pytest.approx(metrics(ranks, torch.full_like(ranks, 30))["ndcg@10"])


def test_the_split_handed_over_is_ours(build_config: BuildConfig, write_dataset: WriteDataset) -> None:
    """Against the rows of the file: the last of every user is its test target, the one before its validation target."""
    rows = [*random_rows(n_users=20), *((f"few{n}", f"i{place}", 10 + place) for n in (1, 2, 3) for place in range(n))]
    write_dataset(rows)
    dataset = SessionDataset(build_config())
    dataset.build()
    found = split_rows(dataset)

    names = {field: dataset.field2id_token[field] for field in ("user_id", "item_id")}
    named = {
        split: [(names["user_id"][row.user], names["item_id"][row.item], row.timestamp) for row in frame.itertuples()]
        for split, frame in found.items()
    }
    expected: dict[str, list[object]] = {"train": [], "valid": [], "test": []}
    users: dict[str, list[object]] = {}
    for row in sorted(rows, key=lambda row: row[2]):
        users.setdefault(row[0], []).append(row)
    for of_user in users.values():
        n = len(of_user)
        n_held_out = 2 if n >= 4 else 1 if n == 3 else 0
        expected["train"] += of_user[: n - n_held_out]
        expected["valid"] += of_user[-2:-1] if n >= 4 else []
        expected["test"] += of_user[-1:] if n >= 3 else []
    for split, of_split in expected.items():
        assert sorted(named[split]) == sorted(of_split), split
    assert found["train"].groupby("user")["timestamp"].is_monotonic_increasing.all()


def test_a_model_run_again_replaces_its_points_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "new" / "peers.csv"
    assert list(read_points(path).columns) == COLUMNS
    replace_points(path, "a", "SASRec", [(1.0, 2.0, 0.1, 0.2, 0.6, 0.4)])
    replace_points(path, "b", "SASRec", [(1.0, 2.0, 0.3, 0.4, 0.6, 0.4)])
    replace_points(path, "a", "HSTU", [(1.0, 2.0, 0.5, 0.6, 0.6, 0.4)])
    replace_points(path, "a", "SASRec", [(3.0, 4.0, 0.7, 0.8, 0.6, 0.4), (5.0, 6.0, 0.9, 1.0, 0.6, 0.4)])
    rows = read_points(path)[["dataset", "model", "cpu_seconds", "test"]].to_numpy().tolist()
    assert rows == [["b", "SASRec", 1, 0.4], ["a", "HSTU", 1, 0.6], ["a", "SASRec", 3, 0.8], ["a", "SASRec", 5, 1.0]]


def points_of(**curves: list[tuple[float, float, float]]) -> pd.DataFrame:
    """Points (seconds, validation, test) of each model, all with the same values among negatives."""
    rows = [
        ("toy", model, at, 1.0, valid, test, 0.6, math.nan)
        for model, points in curves.items()
        for at, valid, test in points
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_the_test_value_is_that_of_the_best_validation_until_then() -> None:
    points = points_of(SASRec=[(1, 0.1, 0.4), (2, 0.3, 0.2), (3, 0.2, 0.9)])
    assert [chosen_test(points, at) for at in (1, 2, 3)] == [0.4, 0.2, 0.2]
    assert math.isnan(chosen_test(points, 0.5))


def test_the_smallest_lead_is_over_the_best_peer_of_that_time() -> None:
    points = points_of(
        SessionSASRec=[(10, 0.1, 0.9), (40, 0.2, 0.6)],
        SASRec=[(20, 0.1, 0.2), (50, 0.2, 0.3)],
        HSTU=[(35, 0.1, 0.5)],
    )
    # at 30: 0.9 / 0.2; at 35: 0.9 / 0.5; from 40 on 0.6 / 0.5, SASRec's 0.3 at 50 changes nothing
    assert worst_lead(points, "SessionSASRec", start=30) == (pytest.approx(1.2), 40)
    assert worst_lead(points, "SessionSASRec", start=36)[1] == 40
    assert worst_lead(points[points["cpu_seconds"] <= 35], "SessionSASRec", start=30) == (pytest.approx(1.8), 35)


def test_the_table_shows_who_is_there_and_the_lead() -> None:
    some = points_of(SessionSASRec=[(60, 0.5, 0.4)], SASRec=[(70, 0.3, 0.2)])
    lines = table("toy", some)
    assert lines[4] == "| SessionSASRec | 60.0 | 60 | 0.5000 | 60 | **0.4000** | 0.6000 | - | - | 0.4000 |"
    assert lines[5] == "| SASRec (RecTools) | 70.0 | 70 | 0.3000 | 70 | **0.2000** | 0.6000 | - | - | - |"
    assert "2.00 times the test NDCG@10 of the best of RecTools' (SASRec)" in lines[-2]
    assert "lead" not in "".join(table("toy", some[some["model"] == "SASRec"]))
