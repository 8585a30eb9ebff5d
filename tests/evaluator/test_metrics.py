import json
import math
from collections import Counter, defaultdict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.evaluator import register

from recbole_session.config.rules import check_value
from recbole_session.errors import InputError
from recbole_session.evaluator.metrics import GAINS, RankMetrics, register_metric

OF_RANKS = ["Recall", "Hit", "Precision", "MRR", "NDCG", "MAP", "GAUC"]
OF_ITEMS = ["ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex", "TailPercentage"]


def metrics_of(
    metrics: list[str], topk: list[int], n_items: int = 6, training: list[int] | None = None, **keys: Any
) -> RankMetrics:
    config = defaultdict(lambda: None, metrics=metrics, topk=topk, metric_decimal_place=2, **keys)
    return RankMetrics(config, n_items, lambda: torch.tensor(training or [1]))


def test_ranks_one_three_six_two_by_hand() -> None:
    values = metrics_of(OF_RANKS, [1, 2, 3, 10])(torch.tensor([1, 3, 6, 2]), torch.tensor([11, 11, 11, 6]))
    expected = {
        "recall@1": 1 / 4,
        "recall@2": 2 / 4,
        "recall@3": 3 / 4,
        "recall@10": 1.0,
        "hit@1": 1 / 4,
        "hit@2": 2 / 4,
        "hit@3": 3 / 4,
        "hit@10": 1.0,
        "precision@1": 1 / 4,
        "precision@2": 2 / 4 / 2,
        "precision@3": 3 / 4 / 3,
        "precision@10": 1 / 10,
        "mrr@1": 1 / 4,
        "mrr@2": (1 + 1 / 2) / 4,
        "mrr@3": (1 + 1 / 3 + 1 / 2) / 4,
        "mrr@10": (1 + 1 / 3 + 1 / 6 + 1 / 2) / 4,
        "ndcg@1": 1 / 4,
        "ndcg@2": (1 + 0.6309297535714575) / 4,  # 1 / log2(3)
        "ndcg@3": (1 + 0.5 + 0.6309297535714575) / 4,
        "ndcg@10": (1 + 0.5 + 0.3562071871080222 + 0.6309297535714575) / 4,  # 1 / log2(7)
        "map@1": 1 / 4,
        "map@2": (1 + 1 / 2) / 4,
        "map@3": (1 + 1 / 3 + 1 / 2) / 4,
        "map@10": (1 + 1 / 3 + 1 / 6 + 1 / 2) / 4,
        # Share of the negatives below the target: 10, 8 and 5 of 10, 4 of 5.
        "gauc": (1.0 + 0.8 + 0.5 + 0.8) / 4,
    }
    assert values == pytest.approx(expected, abs=1e-14)


def test_items_by_hand() -> None:
    """Two users, five items and padding; training rows: item 1 four times, 2 twice, 3, 4 and 5 once."""
    metrics = metrics_of(OF_ITEMS, [1, 3], n_items=6, training=[1, 1, 1, 1, 2, 2, 3, 4, 5])
    items = torch.tensor([[1, 3, 2], [1, 2, 4]])
    values = metrics(torch.tensor([1, 1]), torch.tensor([5, 5]), items)
    quarter, third = 1 / 4, 1 / 3
    expected = {
        "itemcoverage@1": 1 / 6,  # {1}
        "itemcoverage@3": 4 / 6,  # {1, 2, 3, 4}
        "averagepopularity@1": (4 + 4) / 2,
        "averagepopularity@3": ((4 + 1 + 2) / 3 + (4 + 2 + 1) / 3) / 2,
        "shannonentropy@1": 0.0,
        # Shares 2/6, 2/6, 1/6, 1/6; RecBole divides by the number of distinct items, four.
        "shannonentropy@3": quarter * (2 * third * math.log(3) + 2 * (1 / 6) * math.log(6)),
        # Counts of six items in rising order: 0 0 0 0 0 2, weights -5 -3 -1 1 3 5.
        "giniindex@1": 5 * 2 / (6 * 2),
        # 0 0 1 1 2 2.
        "giniindex@3": (-1 + 1 + 3 * 2 + 5 * 2) / (6 * 6),
        # The tail is a tenth of five items, but one at least: item 3, the smallest of the rarest.
        "tailpercentage@1": 0.0,
        "tailpercentage@3": (1 / 3 + 0) / 2,
    }
    assert values == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(("tail_ratio", "expected"), [(0.5, (1 / 3 + 1 / 3) / 2), (2, (2 / 3 + 2 / 3) / 2)])
def test_tail_ratio_is_a_share_of_items_or_a_number_of_rows(tail_ratio: float, expected: float) -> None:
    # Half of five items: 3 and 4. At most two rows: 2, 3, 4 and 5.
    training = [1, 1, 1, 1, 2, 2, 3, 4, 5]
    metrics = metrics_of(["TailPercentage"], [3], training=training, tail_ratio=tail_ratio)
    values = metrics(torch.tensor([1, 1]), torch.tensor([5, 5]), torch.tensor([[1, 3, 2], [1, 2, 4]]))
    assert values == pytest.approx({"tailpercentage@3": expected})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 60)), min_size=1, max_size=12),
    st.lists(st.integers(1, 30), min_size=1, max_size=4, unique=True),
)
def test_metrics_of_ranks_equal_their_formulas(pairs: list[tuple[int, int]], topk: list[int]) -> None:
    ranks = [rank for rank, _ in pairs]
    counts = [rank + worse + 1 for rank, worse in pairs]
    values = metrics_of(OF_RANKS, topk)(torch.tensor(ranks), torch.tensor(counts))

    def mean(gains: list[float]) -> float:
        return math.fsum(gains) / len(gains)

    expected = {"gauc": mean([(n - rank) / (n - 1) for rank, n in zip(ranks, counts, strict=True)])}
    for k in topk:
        expected[f"recall@{k}"] = expected[f"hit@{k}"] = mean([float(rank <= k) for rank in ranks])
        expected[f"precision@{k}"] = mean([(rank <= k) / k for rank in ranks])
        expected[f"mrr@{k}"] = expected[f"map@{k}"] = mean([(rank <= k) / rank for rank in ranks])
        expected[f"ndcg@{k}"] = mean([(rank <= k) / math.log2(rank + 1) for rank in ranks])
    assert values == pytest.approx(expected, abs=1e-13)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_metrics_of_items_equal_their_formulas(data: st.DataObject) -> None:
    n_items, max_k = 12, 5
    one_list = st.permutations(range(1, n_items)).map(lambda items: items[:max_k])
    lists = data.draw(st.lists(one_list, min_size=1, max_size=6))
    training = data.draw(st.lists(st.integers(1, n_items - 1), min_size=1, max_size=40))
    topk = [*data.draw(st.lists(st.integers(1, max_k), max_size=2, unique=True)), max_k]
    values = metrics_of(OF_ITEMS, topk, n_items, training)(
        torch.ones(len(lists), dtype=torch.int64), torch.full((len(lists),), n_items), torch.tensor(lists)
    )
    rows = Counter(training)
    tail = sorted(rows, key=lambda item: (rows[item], item))[: max(len(rows) // 10, 1)]
    for k in topk:
        shown = [item for items in lists for item in items[:k]]
        times = Counter(shown)
        rising = sorted(times.get(item, 0) for item in range(n_items))
        gini = sum((2 * place - n_items - 1) * count for place, count in enumerate(rising, start=1))
        entropy = -math.fsum(count / len(shown) * math.log(count / len(shown)) for count in times.values())
        assert values[f"itemcoverage@{k}"] == pytest.approx(len(set(shown)) / n_items)
        assert values[f"averagepopularity@{k}"] == pytest.approx(sum(rows[item] for item in shown) / len(shown))
        assert values[f"shannonentropy@{k}"] == pytest.approx(entropy / len(times), abs=1e-12)
        assert values[f"giniindex@{k}"] == pytest.approx(gini / (n_items * len(shown)), abs=1e-12)
        assert values[f"tailpercentage@{k}"] == pytest.approx(sum(item in tail for item in shown) / len(shown))


@pytest.mark.parametrize("metric", ["Recall", "Hit", "NDCG", "MRR", "MAP"])
def test_a_longer_list_never_scores_lower(metric: str) -> None:
    ranks = torch.tensor([1, 1, 2, 4, 7, 8, 15, 16, 30])
    values = list(metrics_of([metric], list(range(1, 17)))(ranks, ranks + 1).values())
    assert values == sorted(values)
    assert len(set(values)) == 7  # it rises at 2, 4, 7, 8, 15 and 16 only


def test_k_beyond_the_candidates_finds_every_target() -> None:
    values = metrics_of(["Recall", "Precision"], [3, 50])(torch.tensor([3, 4]), torch.tensor([4, 4]))
    assert values == pytest.approx({"recall@3": 0.5, "recall@50": 1.0, "precision@3": 1 / 6, "precision@50": 0.02})


def test_values_are_not_rounded_and_are_plain_numbers() -> None:
    values = metrics_of(["Recall", "NDCG", "GAUC", "ItemCoverage"], [2], n_items=7)(
        torch.tensor([2, 9, 9]), torch.tensor([10, 10, 10]), torch.tensor([[1, 2], [2, 1], [3, 1]])
    )
    third = 1 / 3
    expected = {
        "recall@2": third,
        "ndcg@2": third / math.log2(3),
        "gauc": (8 + 1 + 1) / 27,
        "itemcoverage@2": 3 / 7,
    }
    assert values == pytest.approx(expected, rel=0, abs=2e-15)
    assert {type(value) for value in values.values()} == {float}
    assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize("metric", OF_RANKS + OF_ITEMS)
def test_recommended_items_are_asked_for_only_by_the_metrics_of_items(metric: str) -> None:
    assert metrics_of([metric], [2]).needs_items == (metric in OF_ITEMS)


def test_names_are_recboles_in_the_order_of_the_keys() -> None:
    values = metrics_of(["NDCG", "gauc", "RECALL"], [5, 1])(torch.tensor([1]), torch.tensor([3]))
    assert list(values) == ["ndcg@5", "ndcg@1", "gauc", "recall@5", "recall@1"]


@pytest.fixture
def registered_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a test registers."""
    for table in (GAINS, register.metrics_dict, register.metric_information, register.metric_types):
        for name in ("closeness", "ndcg2"):
            monkeypatch.setitem(table, name, None)
            del table[name]


@pytest.mark.usefixtures("registered_metrics")
def test_a_metric_of_ones_own() -> None:
    with pytest.raises(InputError, match="or a metric of your own"):
        check_value("metrics", ["Closeness"], None)
    register_metric("Closeness", lambda ranks, k: 1 - (ranks - 1) / k)
    check_value("metrics", ["Closeness"], None)
    values = metrics_of(["Closeness", "Recall"], [2, 5])(torch.tensor([1, 3, 6, 2]), torch.tensor([11, 11, 11, 6]))
    assert values["closeness@2"] == pytest.approx((1 + 1 / 2) / 4)  # ranks 3 and 6 are beyond 2
    assert values["closeness@5"] == pytest.approx((1 + 3 / 5 + 4 / 5) / 4)
    assert values["recall@5"] == 3 / 4


@pytest.mark.usefixtures("registered_metrics")
def test_a_gain_like_ndcgs_gives_ndcg() -> None:
    register_metric("ndcg2", GAINS["ndcg"])
    values = metrics_of(["NDCG", "ndcg2"], [1, 10])(torch.tensor([1, 3, 6, 2, 11]), torch.tensor([20] * 5))
    assert values["ndcg2@1"] == pytest.approx(values["ndcg@1"], abs=1e-12)
    assert values["ndcg2@10"] == pytest.approx(values["ndcg@10"], abs=1e-12)


def test_recboles_metrics_keep_their_meaning() -> None:
    with pytest.raises(InputError, match="metric 'ndcg' is RecBole's; choose another name"):
        register_metric("NDCG", lambda ranks, k: ranks)
