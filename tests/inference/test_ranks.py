"""The promise of `recommend`: at the test position it says what the run's own evaluation found."""

from itertools import chain, combinations
from pathlib import Path

import pandas as pd
import pytest
import torch

import recbole_session
from recbole_session.config.session_config import SessionConfig
from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import build_loaders
from recbole_session.evaluator.ranking_evaluator import RankingEvaluator
from recbole_session.inference.answers import Recommendation
from recbole_session.inference.histories import Request, gather_histories
from recbole_session.inference.questions import dataset_requests
from recbole_session.run.run import Run
from tests.conftest import Row
from tests.inference.conftest import ROWS, TrainToy, histories_and_targets, with_sessions

FEATURES = list(chain.from_iterable(combinations(("ST", "SSE", "TSA"), size) for size in range(4)))
EVERYTHING = {"k": 1000, "exclude_seen": False}


def rank_of(target: str, answer: Recommendation) -> int:
    """The evaluator's rule, spelled out: a tie goes against the target."""
    scores = dict(zip(answer.items, answer.scores, strict=True))
    return 1 + sum(score >= scores[target] for item, score in scores.items() if item != target)


def ranks_of_run(folder: Path, column: str = "rank_all") -> dict[str, int]:
    frame = pd.read_csv(folder / "ranks.csv", dtype={"user_id": str, "item_id": str})
    assert frame["item_id"].tolist() == [histories_and_targets(ROWS)[user][1][1] for user in frame["user_id"]]
    return dict(zip(frame["user_id"], frame[column], strict=True))


def ranks_of_recommend(folder: Path, rows: list[Row] = ROWS, **keys: object) -> dict[str, int]:
    split = histories_and_targets(rows)
    answers = recbole_session.load(folder).recommend(
        {user: [row[1:] for row in history] for user, (history, _) in split.items()},
        now=[target[2] for _, target in split.values()],
        **{**EVERYTHING, **keys},
    )
    return {user: rank_of(str(target[1]), answers[user]) for user, (_, target) in split.items()}


@pytest.mark.parametrize("features", FEATURES, ids="+".join)
def test_every_subset_of_features_reproduces_the_runs_ranks(features: tuple[str, ...], train_toy: TrainToy) -> None:
    folder = train_toy(features=features)
    expected = ranks_of_run(folder)
    assert len(expected) == 15
    assert ranks_of_recommend(folder) == expected


@pytest.mark.parametrize("model", ["SASRec", "BERT4Rec", "GRU4Rec", "SHAN", "HGN", "CORE", "Pop"])
def test_recboles_models_reproduce_the_runs_ranks(model: str, train_toy: TrainToy) -> None:
    """HGN has a vector per user, CORE wants lengths, Pop counts."""
    folder = train_toy(model)
    assert ranks_of_recommend(folder) == ranks_of_run(folder)


@pytest.mark.parametrize("model", ["SessionBERT4Rec", "SHAN"])
def test_the_models_input_is_that_of_the_evaluation(model: str, train_toy: TrainToy) -> None:
    """Column by column; SHAN has RecBole add one. The target, which only the evaluation knows, is left out."""
    folder = train_toy(model)
    config = SessionConfig(config_file_list=[folder / "config.yaml"])
    dataset = SessionDataset(config)
    (expected,) = build_loaders(config, dataset)[2]
    recommender = recbole_session.load(folder)
    users = dataset.field2id_token["user_id"][expected["user_id"].numpy()].tolist()
    split = histories_and_targets(ROWS)
    requests = [Request([row[1:] for row in split[user][0]], split[user][1][2], user=user) for user in users]
    histories = gather_histories(requests, recommender.item_ids, config["session_gap"])
    found = recommender.batch(histories)
    assert set(found.columns) == set(expected.columns)
    assert ("Inverse_item_id_list" in found.columns) == (model == "SHAN")
    session_seq = "session_seq"  # numbers of different users do not compare: count each user's from its latest
    for batch in (expected, found):
        if session_seq in batch:
            batch[session_seq] = (batch[session_seq] - batch[session_seq][:, -1:]) * (batch["item_seq"] != 0)
    for name in set(expected.columns) - {"item_id"}:
        assert torch.equal(found[name], expected[name]), name


def test_sessions_of_the_data_reproduce_the_runs_ranks(train_toy: TrainToy) -> None:
    folder, rows = train_toy(own_sessions=True), with_sessions(ROWS)
    opens = [
        target[3] != max(history, key=lambda row: row[2])[3] for history, target in histories_and_targets(rows).values()
    ]
    assert set(opens) == {True, False}
    assert ranks_of_recommend(folder, rows, new_session=opens) == ranks_of_run(folder)
    assert ranks_of_recommend(folder, ROWS, new_session=opens) != ranks_of_run(folder)  # by silence: another input


def test_ranks_among_the_runs_negatives(train_toy: TrainToy) -> None:
    folder = train_toy()
    config = SessionConfig(config_file_list=[folder / "config.yaml"])
    dataset = SessionDataset(config)
    dataset.build()
    negatives = RankingEvaluator(config, dataset).negatives
    tokens, users = dataset.field2id_token["item_id"], dataset.field2token_id["user_id"]
    recommender = recbole_session.load(folder)
    for name in ("random", "popular"):
        expected = ranks_of_run(folder, f"rank_{name}")
        for user, (history, target) in histories_and_targets(ROWS).items():
            among = [str(tokens[item]) for item in negatives[name][users[user]] if item] + [str(target[1])]
            answer = recommender.recommend([row[1:] for row in history], now=target[2], among=among, **EVERYTHING)
            assert sorted(answer.items) == sorted(among)
            assert rank_of(str(target[1]), answer) == expected[user]


def test_one_at_a_time_or_all_at_once(train_toy: TrainToy) -> None:
    """Scores may move in the last bit with the size of a batch; ranks may not."""
    folder = train_toy()
    recommender = recbole_session.load(folder)
    expected = ranks_of_run(folder)
    for user, (history, target) in histories_and_targets(ROWS).items():
        answer = recommender.recommend([row[1:] for row in history], now=target[2], **EVERYTHING)
        assert rank_of(str(target[1]), answer) == expected[user]


def test_several_targets_of_a_user(train_toy: TrainToy) -> None:
    """By sessions, each target of the test split is asked about, in the order of ranks.csv."""
    folder = train_toy(eval_args="{split: {SS: valid_and_test}}")
    run, recommender = Run(folder), recbole_session.load(folder)
    requests = list(dataset_requests(run.dataset(), "test"))
    ranks = run.ranks()
    assert [request.user for request in requests] == ranks["user_id"].tolist()
    assert ranks["user_id"].duplicated().any()
    answers = recommender.answer(requests, **EVERYTHING)
    found = [rank_of(item, answer) for item, answer in zip(ranks["item_id"], answers, strict=True)]
    assert found == ranks["rank_all"].tolist()
