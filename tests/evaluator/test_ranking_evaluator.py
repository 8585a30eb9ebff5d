import math
import zlib
from collections import Counter
from pathlib import Path

import pytest
import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_session.config.session_config import SessionConfig
from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import build_loaders
from recbole_session.errors import InputError
from recbole_session.evaluator import scores
from recbole_session.evaluator.ranking_evaluator import RankingEvaluator, SplitRanks
from recbole_session.model.session_bert4rec import SessionBERT4Rec
from tests.conftest import BuildConfig, Row, WriteDataset, random_rows

CPU = torch.device("cpu")
NUM_NEGATIVES = 6
SETS = ["random", "popular", "all"]
ROWS = random_rows(n_users=14, n_items=24, seed=11, shortest=2, longest=12)


def score(user: str, item: str, levels: int = 9) -> float:
    """Score of a pair of raw ids, one of a few levels so that ties are frequent."""
    return float(zlib.crc32(f"{user} {item}".encode()) % levels)


class FullSortModel(nn.Module):
    """Gives known scores ``[U, n_items]`` and records how it is called."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores
        self.calls: list[tuple[bool, bool]] = []

    def full_sort_predict(self, batch: Interaction) -> Tensor:
        self.calls.append((self.training, torch.is_grad_enabled()))
        return self.scores[batch["user_id"]].clone()


class PredictModel(nn.Module):
    """As RecBole's models that answer for one pair at a time."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def full_sort_predict(self, batch: Interaction) -> Tensor:
        raise NotImplementedError

    def predict(self, batch: Interaction) -> Tensor:
        return self.scores[batch["user_id"], batch["item_id"]]


class Bench:
    """A dataset on disk with its loaders, its evaluator and the known scores."""

    def __init__(self, config: SessionConfig, levels: int = 9) -> None:
        self.data = SessionDataset(config)
        _, self.valid, self.test = build_loaders(config, self.data)
        self.evaluator = RankingEvaluator(config, self.data)
        self.users = self.data.id2token("user_id", range(self.data.user_num)).tolist()
        self.items = self.data.id2token("item_id", range(self.data.item_num)).tolist()
        self.scores = torch.tensor([[score(user, item, levels) for item in self.items] for user in self.users])
        self.scores[:, 0] = 1e9  # padding, above all

    def evaluate(self, model: nn.Module, split: str = "test", sets: list[str] | None = None) -> SplitRanks:
        return self.evaluator.evaluate(model, getattr(self, split), CPU, SETS if sets is None else sets)

    def negatives(self, name: str, user: str) -> list[str]:
        """Raw ids in the evaluator's own table."""
        row = self.evaluator.negatives[name][self.users.index(user)].tolist()
        return [self.items[item] for item in row if item != 0]


@pytest.fixture
def bench(write_dataset: WriteDataset, build_config: BuildConfig) -> Bench:
    write_dataset(ROWS)
    return Bench(build_config(num_negatives=NUM_NEGATIVES, topk=[1, 3, 10], eval_batch_size=4))


def histories(rows: list[Row]) -> dict[str, list[str]]:
    """Items of every user, oldest first; equal times in the order of the file."""
    ordered: dict[str, list[str]] = {}
    for user, item, _ in sorted(rows, key=lambda row: row[2]):
        ordered.setdefault(user, []).append(item)
    return ordered


def rank_of(user: str, target: str, rivals: set[str]) -> tuple[int, int]:
    above = [rival for rival in rivals - {target} if score(user, rival) >= score(user, target)]
    return len(above) + 1, len(rivals - {target}) + 1


@pytest.mark.parametrize(("split", "from_end", "shortest"), [("test", 1, 3), ("valid", 2, 4)])
def test_ranks_equal_brute_force_over_the_raw_rows(bench: Bench, split: str, from_end: int, shortest: int) -> None:
    catalogue = {item for _, item, _ in ROWS}
    popularity = Counter(item for _, item, _ in ROWS)
    expected = {}
    for user, items in histories(ROWS).items():
        if len(items) < shortest:
            continue
        target = items[-from_end]
        outside = catalogue - set(items)
        popular = sorted(outside, key=lambda item: (-popularity[item], bench.items.index(item)))[:NUM_NEGATIVES]
        drawn = bench.negatives("random", user)
        assert set(drawn) <= outside
        assert len(drawn) == len(set(drawn)) == NUM_NEGATIVES
        expected[user] = (
            target,
            rank_of(user, target, set(drawn)),
            rank_of(user, target, set(popular)),
            rank_of(user, target, catalogue),
        )
    result = bench.evaluate(FullSortModel(bench.scores), split)
    found = {}
    for index, (user, item) in enumerate(zip(result.users.tolist(), result.items.tolist(), strict=True)):
        pairs = ((int(result.ranks[name][index]), int(result.n_candidates[name][index])) for name in SETS)
        found[bench.users[user]] = (bench.items[item], *pairs)
    assert found == expected
    assert len(found) == len(result.users)
    assert len(found) < len(histories(ROWS))  # some are too short


def test_metrics_follow_from_the_ranks(bench: Bench) -> None:
    result = bench.evaluate(FullSortModel(bench.scores))
    for name in SETS:
        ranks = result.ranks[name].tolist()
        for k in (1, 3, 10):
            recall = sum(rank <= k for rank in ranks) / len(ranks)
            ndcg = sum((rank <= k) / math.log2(rank + 1) for rank in ranks) / len(ranks)
            assert result.metrics[name][f"recall@{k}"] == pytest.approx(recall)
            assert result.metrics[name][f"ndcg@{k}"] == pytest.approx(ndcg)


def test_metrics_of_items_follow_from_the_lists_shown(write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    write_dataset(ROWS)
    bench = Bench(
        build_config(num_negatives=NUM_NEGATIVES, metrics=["Recall", "ItemCoverage", "AveragePopularity"],
                     topk=[3], valid_metric="Recall@3", eval_batch_size=5),
        levels=2**31,
    )  # fmt: skip
    result = bench.evaluate(FullSortModel(bench.scores))
    trained = Counter()
    for items in histories(ROWS).values():
        held_out = {2: 0, 3: 1}.get(len(items), 2)
        trained.update(items[: len(items) - held_out])
    for name in SETS:
        shown = []
        for user, target in zip(result.users.tolist(), result.items.tolist(), strict=True):
            candidates = bench.items[1:] if name == "all" else bench.negatives(name, bench.users[user])
            candidates = {*candidates, bench.items[target]}
            shown += sorted(candidates, key=lambda item: -score(bench.users[user], item, 2**31))[:3]
        metrics = result.metrics[name]
        assert metrics["itemcoverage@3"] == pytest.approx(len(set(shown)) / len(bench.items))
        assert metrics["averagepopularity@3"] == pytest.approx(sum(trained[item] for item in shown) / len(shown))


def test_lists_longer_than_the_candidates_are_refused(write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    write_dataset(ROWS)
    config = build_config(
        eval_candidates=["random"],
        valid_candidates="random",
        num_negatives=2,
        metrics=["ItemCoverage"],
        topk=[5],
        valid_metric="ItemCoverage@5",
    )
    with pytest.raises(InputError, match="topk is 5, but candidate set 'random' has only 3 candidates"):
        Bench(config)


@pytest.mark.parametrize("model", ["SessionBERT4Rec", "SASRec"])
def test_size_of_batches_changes_nothing(model: str, write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    write_dataset(ROWS)
    results = []
    for size in (1, 3, 512):
        bench = Bench(build_config(model, num_negatives=NUM_NEGATIVES, eval_batch_size=size))
        fake = FullSortModel(bench.scores)
        results.append(bench.evaluate(fake))
        assert len(fake.calls) == math.ceil(len(results[-1].users) / size)  # one forward pass per batch
    for other in results[1:]:
        assert torch.equal(other.users, results[0].users)
        assert torch.equal(other.items, results[0].items)
        assert other.metrics == results[0].metrics
        for name in SETS:
            assert torch.equal(other.ranks[name], results[0].ranks[name])
            assert torch.equal(other.n_candidates[name], results[0].n_candidates[name])


@pytest.mark.parametrize("rows_at_once", [0, 1, 3])
def test_a_model_is_asked_for_the_scores_that_fit(
    rows_at_once: int, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, pairs = bench.evaluate(FullSortModel(bench.scores)), bench.evaluate(PredictModel(bench.scores))
    monkeypatch.setattr(scores, "WHOLE_SCORES_BYTES", 4 * len(bench.items) * rows_at_once)
    monkeypatch.setattr(scores, "PAIRS_AT_ONCE", 7)
    model = FullSortModel(bench.scores)
    pieces = bench.evaluate(model)
    sizes = [min(4, len(whole.users) - start) for start in range(0, len(whole.users), 4)]  # eval_batch_size is 4
    assert len(model.calls) == sum(math.ceil(size / max(rows_at_once, 1)) for size in sizes)
    for other in (pieces, bench.evaluate(PredictModel(bench.scores)), pairs):
        assert torch.equal(other.users, whole.users)
        assert torch.equal(other.items, whole.items)
        assert other.metrics == whole.metrics
        for name in SETS:
            assert torch.equal(other.ranks[name], whole.ranks[name])
            assert torch.equal(other.n_candidates[name], whole.n_candidates[name])


@pytest.mark.parametrize("features", [[], ["ST", "SSE", "TSA"]])
@pytest.mark.parametrize("slice_bytes", [1, 2**20])
def test_factors_of_the_scores_give_what_the_scores_give(
    features: list[str], slice_bytes: int, write_dataset: WriteDataset, build_config: BuildConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """SessionBERT4Rec through its factors, and with nothing but its scores of all items to go by."""
    write_dataset(ROWS)
    keys = {"metrics": ["NDCG", "ItemCoverage"], "topk": [3], "valid_metric": "NDCG@3", "initializer_range": 0.3}
    config = build_config(session_features=features, num_negatives=NUM_NEGATIVES, eval_batch_size=5, **keys)
    bench = Bench(config)
    torch.manual_seed(0)
    model = SessionBERT4Rec(config, bench.data)

    class Scores(nn.Module):
        def full_sort_predict(self, batch: Interaction) -> Tensor:
            return model.eval().full_sort_predict(batch)

    slow = bench.evaluate(Scores())
    monkeypatch.setattr(scores, "SCORES_BYTES", slice_bytes)
    fast = bench.evaluate(model)
    assert torch.equal(fast.users, slow.users)
    assert fast.metrics == slow.metrics
    for name in SETS:
        assert torch.equal(fast.ranks[name], slow.ranks[name])
        assert torch.equal(fast.n_candidates[name], slow.n_candidates[name])
        (alone,) = bench.evaluate(model, sets=[name]).ranks.values()
        assert torch.equal(alone, slow.ranks[name])


def test_negatives_are_the_same_for_every_model_and_training(
    write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    write_dataset(ROWS)

    def negatives(model: str = "SessionBERT4Rec", **keys: object) -> dict[str, Tensor | None]:
        torch.manual_seed(len(keys))
        return Bench(build_config(model, num_negatives=NUM_NEGATIVES, **keys)).evaluator.negatives

    first = negatives()
    others = [negatives(model) for model in ("SASRec", "BERT4Rec", "Pop")]
    others += [negatives(seed=7, epochs=3), negatives(eval_batch_size=1), negatives(session_features=[])]
    for other in others:
        assert other["all"] is None
        assert torch.equal(other["random"], first["random"])
        assert torch.equal(other["popular"], first["popular"])
    reseeded = negatives(negatives_seed=1)
    assert not torch.equal(reseeded["random"], first["random"])
    assert torch.equal(reseeded["popular"], first["popular"])


@pytest.mark.parametrize("value", [0.0, -math.inf, math.nan])
def test_a_constant_score_wins_nothing(bench: Bench, value: float) -> None:
    result = bench.evaluate(FullSortModel(torch.full_like(bench.scores, value)))
    for name in SETS:
        assert torch.equal(result.ranks[name], result.n_candidates[name])
        assert min(result.n_candidates[name].tolist()) > 3
        zero = {f"{metric}@{k}" for metric in ("recall", "ndcg") for k in (1, 3)}
        assert {metric for metric, worth in result.metrics[name].items() if worth == 0.0} >= zero


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_model_that_only_predicts_pairs_gets_the_same_ranks(bench: Bench, split: str) -> None:
    full = bench.evaluate(FullSortModel(bench.scores), split)
    pairs = bench.evaluate(PredictModel(bench.scores), split)
    assert torch.equal(pairs.items, full.items)
    for name in SETS:
        assert torch.equal(pairs.ranks[name], full.ranks[name])
    assert pairs.metrics == full.metrics


def test_own_negatives_are_ranked_under_the_name_of_their_file(
    write_dataset: WriteDataset, build_config: BuildConfig, tmp_path: Path
) -> None:
    rows = [(user, f"i{place}", place) for user in ("a", "b", "c") for place in range(4)]
    rows += [("z", f"j{place}", place) for place in range(5)]
    write_dataset(rows)
    path = tmp_path / "hard.csv"
    path.write_text("user_id,item_id\na,j0\nb,j4\na,j1\nc,i0\nz,i1\na,j2\nb,j0\n")
    bench = Bench(build_config(eval_candidates=["random", str(path)], valid_candidates="hard"))
    result = bench.evaluate(FullSortModel(bench.scores), sets=["hard"])
    negatives = {"a": {"j0", "j1", "j2"}, "b": {"j4", "j0"}, "c": {"i0"}, "z": {"i1"}}
    for index, user in enumerate(bench.users[int(user)] for user in result.users):
        target = "j4" if user == "z" else "i3"
        rank, count = rank_of(user, target, negatives[user])
        assert (int(result.ranks["hard"][index]), int(result.n_candidates["hard"][index])) == (rank, count)
    assert set(result.ranks) == set(result.n_candidates) == set(result.metrics) == {"hard"}


def test_a_target_among_its_own_negatives_counts_once(
    write_dataset: WriteDataset, build_config: BuildConfig, tmp_path: Path
) -> None:
    write_dataset([(user, f"i{place}", place) for user in ("a", "b") for place in range(4)])
    path = tmp_path / "own.csv"
    path.write_text("user_id,item_id\na,i0\na,i3\nb,i1\n")
    bench = Bench(build_config(eval_candidates=[str(path)], valid_candidates="own"))
    result = bench.evaluate(FullSortModel(bench.scores), sets=["own"])
    assert result.n_candidates["own"].tolist() == [2, 2]


def test_a_target_without_a_rival_is_refused(
    write_dataset: WriteDataset, build_config: BuildConfig, tmp_path: Path
) -> None:
    write_dataset([(user, f"i{place}", place) for user in ("a", "b") for place in range(4)])
    path = tmp_path / "own.csv"
    path.write_text("user_id,item_id\na,i0\n")
    with pytest.raises(InputError, match="candidate set 'own' has no negative"):
        Bench(build_config(eval_candidates=[str(path)], valid_candidates="own"))
    with pytest.raises(InputError, match="candidate set 'random' has no negative"):  # they know the whole catalogue
        Bench(build_config(eval_candidates=["random", "all"]))


def test_only_the_sets_asked_for_are_ranked(bench: Bench) -> None:
    result = bench.evaluate(FullSortModel(bench.scores), sets=["popular"])
    assert set(result.ranks) == set(result.n_candidates) == set(result.metrics) == {"popular"}
    both = bench.evaluate(FullSortModel(bench.scores))
    assert torch.equal(result.ranks["popular"], both.ranks["popular"])


def test_models_are_asked_in_evaluation_mode_without_gradients(bench: Bench) -> None:
    model = FullSortModel(bench.scores).train()
    bench.evaluate(model)
    assert set(model.calls) == {(False, False)}


@pytest.mark.parametrize("split", [{"SS": "valid_and_test"}, {"TS": [5, 6]}])
def test_a_split_without_a_target_is_one_sentence_before_training(
    split: dict[str, object], write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    write_dataset([("a", "x", 1), ("a", "y", 2), ("a", "z", 3), ("b", "x", 1), ("b", "v", 2)])
    bench = Bench(build_config(num_negatives=1))
    assert bench.evaluate(FullSortModel(bench.scores)).users.tolist() == [bench.users.index("a")]
    with pytest.raises(InputError, match=f"dataset 'toy' has no row to test on under the split .*{next(iter(split))}"):
        Bench(build_config(num_negatives=1, eval_args={"split": split}))
