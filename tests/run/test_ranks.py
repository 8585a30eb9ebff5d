import math
from pathlib import Path

import numpy as np
import pytest

from recbole_session.errors import InputError
from recbole_session.run.ranks import check_metrics, is_per_user, metric_of_ranks, read_ranks

HEADER = "user_id,item_id,rank_all,candidates_all"


def test_metrics_of_ranks_by_hand() -> None:
    ranks = np.array([1, 2, 3, 10, 11])
    assert metric_of_ranks(ranks, "recall@10").tolist() == [1, 1, 1, 1, 0]
    assert metric_of_ranks(ranks, "hit@2").tolist() == [1, 1, 0, 0, 0]
    assert metric_of_ranks(ranks, "ndcg@10").tolist() == pytest.approx([1, 1 / math.log2(3), 0.5, 1 / math.log2(11), 0])
    assert metric_of_ranks(ranks, "mrr@3").tolist() == pytest.approx([1, 1 / 2, 1 / 3, 0, 0])
    assert metric_of_ranks(ranks, "map@3").tolist() == pytest.approx([1, 1 / 2, 1 / 3, 0, 0])
    assert metric_of_ranks(ranks, "precision@5").tolist() == pytest.approx([0.2, 0.2, 0.2, 0, 0])


def test_metrics_that_no_rank_decides_are_known_as_such() -> None:
    assert is_per_user("ndcg@10")
    assert not is_per_user("itemcoverage@10")


def test_ids_stay_texts_and_ranks_are_whole_numbers(tmp_path: Path) -> None:
    (tmp_path / "ranks.csv").write_text(f"{HEADER}\n007,NA,1,5\n1e3,,5,5\n")
    frame = read_ranks(tmp_path / "ranks.csv")
    assert frame["user_id"].tolist() == ["007", "1e3"]
    assert frame["item_id"].tolist() == ["NA", ""]
    assert frame["rank_all"].dtype == frame["candidates_all"].dtype == np.int64


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read: No columns"),
        ("user_id,item_id\nu,i\n", "its columns are user_id, item_id, and must be"),
        ("user_id,item_id,rank_all\nu,i,1\n", "its columns are user_id, item_id, rank_all"),
        (f"{HEADER}\nu,i,1,5\nv,i,2,5\nu,j,2,5\n", "the rows of user 'u' do not follow one another"),
        *((f"{HEADER}\nu,i,{row}\n", "rank_all must hold whole") for row in ("0,5", "6,5", "1.5,5", ",5", "x,5")),
        (f"{HEADER}\nu,i,1,5,9,9\n", "its columns are"),
        (f"{HEADER}\nu,i,{10**30},5\n", "rank_all must hold"),
    ],
)
def test_a_damaged_file_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "ranks.csv").write_text(text)
    with pytest.raises(InputError, match=rf"ranks\.csv .*({words}).*; train .*again"):
        read_ranks(tmp_path / "ranks.csv")


def test_ranks_must_give_the_metrics_of_the_result(tmp_path: Path) -> None:
    path = tmp_path / "ranks.csv"
    path.write_text(f"{HEADER}\nu,i,1,5\nv,j,3,5\n")
    frame = read_ranks(path)
    metrics = {"all": {"ndcg@2": 0.5, "ndcg@3": 0.75, "mrr@3": 2 / 3, "averagepopularity@3": 9.0}}
    check_metrics(path, frame, metrics, "result.json")
    with pytest.raises(InputError, match=r"gives ndcg@3 = 0.750000 among all, and result.json beside it says 0.250000"):
        check_metrics(path, frame, {"all": {**metrics["all"], "ndcg@3": 0.25}}, "result.json")
    with pytest.raises(InputError, match=r"ranks among all, and result.json beside it among random, all"):
        check_metrics(path, frame, {"random": {}, **metrics}, "result.json")
