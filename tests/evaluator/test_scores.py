"""Ranks from factors of the scores against the slow and obvious: every score in exact arithmetic, then a loop."""

import math
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_session.evaluator import scores as scores_module
from recbole_session.evaluator.ranking import rank_targets
from recbole_session.evaluator.scores import ScoreFactors, has_score_factors
from recbole_session.model.session_bert4rec import SessionBERT4Rec
from tests.memory import peak_growth

NAN, INF = math.nan, math.inf
SHAPES = [(1, 2, 1), (1, 3101, 31), (2, 7, 64), (3, 9, 5), (5, 40, 3), (16, 33, 256), (17, 101, 100), (64, 1000, 8)]


def random_factors(n_rows: int, n_items: int, d: int, seed: int = 0) -> ScoreFactors:
    generator = torch.Generator().manual_seed(seed)
    return ScoreFactors(*(torch.randn(shape, generator=generator) for shape in ((n_rows, d), (n_items, d), (n_items,))))


def random_targets(n_rows: int, n_items: int, seed: int = 0) -> Tensor:
    return torch.randint(1, n_items, (n_rows,), generator=torch.Generator().manual_seed(seed + 100))


def random_table(n_rows: int, n_items: int, width: int, seed: int = 0) -> Tensor:
    """Negatives with gaps, at times the target among them, none twice."""
    generator = torch.Generator().manual_seed(seed + 200)
    rows = [torch.randperm(n_items, generator=generator)[:width] for _ in range(n_rows)]
    table = torch.stack(rows) if rows else torch.empty(0, min(width, n_items), dtype=torch.int64)
    return table * (torch.rand(table.shape, generator=generator) < 0.8)


def true_scores(factors: ScoreFactors) -> list[list[Fraction]]:
    """Without any rounding."""
    states, weight, bias = (
        [[Fraction(x) for x in row] for row in part.double().reshape(len(part), -1).tolist()] for part in factors
    )
    return [
        [sum(map(Fraction.__mul__, state, item), start=offset[0]) for item, offset in zip(weight, bias, strict=True)]
        for state in states
    ]


def true_rank(scores: list[Fraction], target: int, negatives: list[int] | None) -> tuple[int, int]:
    rivals = set(range(1, len(scores)) if negatives is None else negatives) - {0, target}
    return 1 + sum(scores[rival] >= scores[target] for rival in rivals), 1 + len(rivals)


def ranks(factors: ScoreFactors, targets: Tensor, table: Tensor | None) -> list[tuple[int, int]]:
    (found,) = rank_targets(factors, targets, [table])
    assert found.dtype == torch.int64
    return [tuple(row) for row in found.tolist()]


@pytest.fixture(params=[1, 64, 1000, None], ids=lambda size: f"{size} bytes")
def slice_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of one item, of some items, of all."""
    if request.param is not None:
        monkeypatch.setattr(scores_module, "SCORES_BYTES", request.param)


@pytest.fixture(params=[0, 10**9], ids=["gathered", "multiplied"])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the scores of negatives come about when not all items are asked for."""
    monkeypatch.setattr(scores_module, "GATHERING_COSTS", request.param)


# ---- against exact arithmetic


@pytest.mark.usefixtures("slice_bytes", "road")
@pytest.mark.parametrize("seed", range(3))
def test_ranks_are_those_of_exact_arithmetic(seed: int) -> None:
    n_rows, n_items, d = [(1, 2, 1), (4, 13, 3), (7, 30, 5)][seed]
    factors, targets = random_factors(n_rows, n_items, d, seed), random_targets(n_rows, n_items, seed)
    scores = true_scores(factors)
    for table in (None, random_table(n_rows, n_items, 6, seed)):
        rows = [None] * n_rows if table is None else table.tolist()
        expected = [true_rank(*row) for row in zip(scores, targets.tolist(), rows, strict=True)]
        assert ranks(factors, targets, table) == expected


@pytest.mark.usefixtures("slice_bytes")
def test_scores_closer_than_float32_can_tell_are_told_apart() -> None:
    """Sums that cancel: in float32 their error is larger than their distance."""
    torch.manual_seed(0)
    states = torch.randn(6, 64) * 100
    weight = torch.randn(1, 64) + torch.randn(20, 64) * 1e-6
    factors = ScoreFactors(states, weight, torch.zeros(20))
    targets = random_targets(6, 20)
    product = states @ weight.T
    gap = (product - (states.double() @ weight.double().T)).abs().max()
    assert gap > product.std(dim=1).min() * 0.1  # float32 is of no use here
    expected = [
        true_rank(row, target, None) for row, target in zip(true_scores(factors), targets.tolist(), strict=True)
    ]
    assert ranks(factors, targets, None) == expected


# ---- ties


@pytest.mark.usefixtures("slice_bytes", "road")
@pytest.mark.parametrize(("n_rows", "n_items", "d"), SHAPES)
def test_items_with_equal_weights_tie_with_the_target(n_rows: int, n_items: int, d: int) -> None:
    """A matrix product alone gives equal items scores that differ in the last bit, by their place and the shape."""
    factors = random_factors(n_rows, n_items, d, seed=n_rows)
    kinds = torch.arange(n_items) % max(n_items // 3, 1)  # about three of each
    twins = ScoreFactors(factors.states, factors.weight[kinds], factors.bias[kinds])
    targets = random_targets(n_rows, n_items)
    table = random_table(n_rows, n_items, 60)
    kind_scores = factors.states.double() @ factors.weight.double().T + factors.bias.double()
    for negatives in (None, table):
        for row, (rank, count) in enumerate(ranks(twins, targets, negatives)):
            target = int(targets[row])
            rivals = set(range(1, n_items) if negatives is None else table[row].tolist()) - {0, target}
            own = kinds[target]
            above = [
                rival
                for rival in rivals
                if kinds[rival] == own or kind_scores[row, kinds[rival]] > kind_scores[row, own]
            ]
            assert (rank, count) == (len(above) + 1, len(rivals) + 1)


@pytest.mark.usefixtures("slice_bytes", "road")
@pytest.mark.parametrize("factor", [0.0, 1.0, 1e30, 1e-40, NAN, INF])
@pytest.mark.parametrize("bias", [0.0, -3.3, INF, -INF, NAN])
def test_constant_scores_rank_last(factor: float, bias: float) -> None:
    states, weight, _ = random_factors(5, 19, 7)
    factors = ScoreFactors(states * factor, weight[:1].expand(19, 7).clone(), torch.full((19,), bias))
    for table in (None, random_table(5, 19, 8)):
        for rank, count in ranks(factors, random_targets(5, 19), table):
            assert rank == count > 1


def test_ranks_depend_on_no_slice_no_row_and_no_road(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores so close that float32 would order them by chance."""
    states, weight, bias = random_factors(30, 200, 48)
    factors = ScoreFactors(states, weight[:1] + weight * 1e-7, bias * 0)
    targets, table = random_targets(30, 200), random_table(30, 200, 50)
    expected = {name: ranks(factors, targets, negatives) for name, negatives in (("all", None), ("some", table))}
    for size in (1, 500, 5000):
        monkeypatch.setattr(scores_module, "SCORES_BYTES", size)
        for costs in (0, 10**9):
            monkeypatch.setattr(scores_module, "GATHERING_COSTS", costs)
            assert ranks(factors, targets, table) == expected["some"]
        both = rank_targets(factors, targets, [table, None, table])
        for name, found in zip(("some", "all", "some"), both, strict=True):
            assert [tuple(row) for row in found.tolist()] == expected[name]
    for row in range(30):
        one = ScoreFactors(states[row : row + 1], factors.weight, factors.bias)
        assert ranks(one, targets[row : row + 1], None) == expected["all"][row : row + 1]


@pytest.mark.parametrize("d", [1, 2, 3, 7, 64, 100, 257])
def test_exact_scores_have_the_same_bits_in_every_call(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    factors = random_factors(9, 50, d)
    rows, items = torch.arange(9).repeat_interleave(50), torch.arange(50).repeat(9)
    scores = factors.exact(rows, items)
    torch.testing.assert_close(
        scores.view(9, 50), factors.states.double() @ factors.weight.double().T + factors.bias.double()
    )
    monkeypatch.setattr(scores_module, "SCORES_BYTES", 8 * d * 7)
    assert torch.equal(factors.exact(rows, items), scores)
    for place in range(0, 450, 37):
        one = factors.exact(rows[place : place + 1], items[place : place + 1])
        assert torch.equal(one, scores[place : place + 1])


# ---- numbers that are none


@pytest.mark.usefixtures("slice_bytes", "road")
def test_no_score_that_is_not_a_number_lets_the_target_pass() -> None:
    """One state in one dimension, so that a bias is a score; items 1 to 6."""
    bias = torch.tensor([NAN, 2.0, NAN, INF, -INF, 2.0, 1.0])

    def rank(target: int, negatives: list[int] | None = None) -> tuple[int, int]:
        factors = ScoreFactors(torch.ones(1, 1), torch.zeros(7, 1), bias)
        table = None if negatives is None else torch.tensor([negatives], dtype=torch.int64)
        (found,) = ranks(factors, torch.tensor([target]), table)
        return found

    assert rank(1) == (4, 6)  # 2 is no number, 3 is higher, 5 ties
    assert rank(2) == (6, 6)
    assert rank(3) == (2, 6)
    assert rank(4) == (6, 6)
    assert rank(6) == (5, 6)
    assert rank(1, [0, 6, 4, 0]) == (1, 3)
    assert rank(1, [2, 6, 1]) == (2, 3)
    assert rank(2, [6, 0, 4]) == (3, 3)
    assert rank(6, []) == (1, 1)


def test_sums_that_overflow_float32_are_ranked_by_their_true_value() -> None:
    states = torch.full((1, 4), 1e20)
    weight = torch.tensor([[0.0] * 4, [1e20, -1e20, 1e10, 0], [1e20, -1e20, 2e10, 0], [1e20, 1e20, 0, 0]])
    assert ranks(ScoreFactors(states, weight, torch.zeros(4)), torch.tensor([1]), None) == [(3, 3)]
    assert ranks(ScoreFactors(states, weight, torch.zeros(4)), torch.tensor([2]), None) == [(2, 3)]


def test_padding_never_counts() -> None:
    factors = random_factors(4, 10, 3)
    targets, table = random_targets(4, 10), random_table(4, 10, 5)
    expected = [ranks(factors, targets, None), ranks(factors, targets, table)]
    factors.bias[0] = 1e4
    assert [ranks(factors, targets, None), ranks(factors, targets, table)] == expected


# ---- recommended items


@pytest.mark.usefixtures("slice_bytes", "road")
@pytest.mark.parametrize("k", [1, 3, 12, 60])
def test_best_items_are_the_candidates_sorted_by_score(k: int) -> None:
    factors = random_factors(6, 40, 5)
    factors.bias[0] = 1e4
    targets, table = random_targets(6, 40), random_table(6, 40, 12)
    scores = factors.states @ factors.weight.T + factors.bias
    both = rank_targets(factors, targets, [None, table], k)
    alone = rank_targets(factors, targets, [table], k)
    assert torch.equal(alone[0], both[1])
    for negatives, found in zip((None, table), both, strict=True):
        for row in range(6):
            candidates = set(range(1, 40) if negatives is None else [*table[row].tolist(), int(targets[row])]) - {0}
            expected = sorted(candidates, key=lambda item: -float(scores[row, item]))[:k]
            width = min(k, 39 if negatives is None else 13)
            assert found[row, 2:].tolist() == expected + [0] * (width - len(expected))


# ---- what else there may be


@pytest.mark.parametrize("tables", [[], [None], [torch.empty(0, 4, dtype=torch.int64)]])
def test_no_rows_and_no_sets(tables: list[Tensor | None]) -> None:
    found = rank_targets(random_factors(0, 9, 3), torch.empty(0, dtype=torch.int64), tables)
    assert [tuple(one.shape) for one in found] == [(0, 2)] * len(tables)


@pytest.mark.parametrize(("precision", "bits"), [("high", 10), ("medium", 7)])
def test_products_of_reduced_precision_change_no_rank(
    precision: str, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a device that multiplies in TF32 or bfloat16 when it may: factors are rounded to a few bits."""
    factors, targets = random_factors(32, 300, 64), random_targets(32, 300)
    expected = ranks(factors, targets, None)
    linear = F.linear

    def rounded(part: Tensor) -> Tensor:
        mantissa, exponent = part.frexp()
        return torch.ldexp((mantissa * 2 ** (bits + 1)).round(), exponent - bits - 1)

    monkeypatch.setattr(F, "linear", lambda states, weight, bias: linear(rounded(states), rounded(weight), bias))
    before = torch.get_float32_matmul_precision()
    assert ranks(factors, targets, None) != expected
    torch.set_float32_matmul_precision(precision)
    try:
        assert ranks(factors, targets, None) == expected
    finally:
        torch.set_float32_matmul_precision(before)


def test_autocast_changes_no_rank() -> None:
    factors, targets = random_factors(32, 300, 64), random_targets(32, 300)
    expected = ranks(factors, targets, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ranks(factors, targets, None) == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    factors = ScoreFactors(*(part.to(dtype) for part in random_factors(5, 30, 4)))
    targets = random_targets(5, 30)
    expected = [
        true_rank(row, target, None) for row, target in zip(true_scores(factors), targets.tolist(), strict=True)
    ]
    assert ranks(factors, targets, None) == expected


def test_few_pairs_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is wide enough to be sure and narrow enough to be of use."""
    looked_up, exact = [], ScoreFactors.exact

    def counting(factors: ScoreFactors, rows: Tensor, items: Tensor) -> Tensor:
        looked_up.append(len(rows))
        return exact(factors, rows, items)

    monkeypatch.setattr(ScoreFactors, "exact", counting)
    rank_targets(random_factors(100, 3000, 64), random_targets(100, 3000), [None])
    assert sum(looked_up) - 100 < 100 * 3000 / 1000


def test_a_subclass_that_scores_in_another_way_is_asked_for_its_scores() -> None:
    def new(base: type, *names: str) -> nn.Module:
        kind: Callable[..., type] = type("Model", (base,), {name: lambda self, batch: None for name in names})
        return kind.__new__(kind)

    assert has_score_factors(new(SessionBERT4Rec))
    assert not has_score_factors(new(SessionBERT4Rec, "full_sort_predict"))
    assert has_score_factors(new(SessionBERT4Rec, "full_sort_predict", "score_factors"))
    assert has_score_factors(new(SessionBERT4Rec, "score_factors"))
    assert not has_score_factors(new(nn.Module, "full_sort_predict"))
    assert not has_score_factors(SimpleNamespace())


def test_memory_is_bounded_at_a_million_items() -> None:
    """512 users: their scores would take 1,953 MiB."""
    before = """
from recbole_session.evaluator.ranking import rank_targets
from recbole_session.evaluator.scores import ScoreFactors
torch.manual_seed(0)
n_items = 1_000_000
factors = ScoreFactors(torch.randn(512, 2), torch.randn(n_items, 2), torch.randn(n_items))
targets, table = torch.randint(1, n_items, (512,)), torch.randint(1, n_items, (512, 100))
"""
    measured = """
found = rank_targets(factors, targets, [table, table, None], 10)
assert all(one.shape == (512, 12) for one in found)
"""
    assert peak_growth(before, measured) < 150
