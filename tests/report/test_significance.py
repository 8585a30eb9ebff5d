import math

import numpy as np
import pytest
from scipy import stats

from recbole_session.report.significance import (
    bootstrap_means,
    holm,
    percentile_interval,
    randomisation_test,
    standardised_means,
)
from recbole_session.run.ranks import metric_of_ranks


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 1, 1], 2 / 8),  # only +++ and --- are as extreme
        ([3, 2, 1], 2 / 8),
        ([3, -2, 1], 6 / 8),  # |sum| of the eight flips: 6 2 4 0 0 4 2 6; observed 2
        ([1, 1, 1, 0, 0, 0, 0], 2 / 8),  # who does not differ says nothing
        ([1, -1], 1.0),
        ([0, 0, 0], 1.0),
        ([5], 1.0),
    ],
)
def test_few_users_are_enumerated(differences, p):
    tested = randomisation_test(np.array(differences, dtype=float)[:, None])
    assert tested.p[0] == pytest.approx(p)
    assert tested.exact[0]


def scipy_p(differences, n_resamples):
    return stats.permutation_test(
        (differences, np.zeros_like(differences)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=n_resamples,
        rng=np.random.default_rng(1),
    ).pvalue


@pytest.mark.parametrize("metric", ["recall@10", "ndcg@10"])
@pytest.mark.parametrize("seed", range(5))
def test_small_samples_agree_with_scipy_exactly(metric, seed):
    generator = np.random.default_rng(seed)
    ours, theirs = generator.integers(1, 20, size=(2, 3, 11))  # three seeds, eleven users
    differences = metric_of_ranks(ours, metric).mean(0) - metric_of_ranks(theirs, metric).mean(0)
    assert randomisation_test(differences[:, None]).p[0] == pytest.approx(scipy_p(differences, np.inf), abs=1e-12)


@pytest.mark.parametrize("metric", ["recall@10", "ndcg@10"])
def test_large_samples_agree_with_scipy_within_monte_carlo_error(metric):
    generator = np.random.default_rng(0)
    theirs = generator.integers(1, 60, size=(300, 4))
    ours = np.maximum(1, theirs - generator.integers(-9, [10, 11, 12, 13], size=(300, 4)))  # ever better columns
    differences = metric_of_ranks(ours, metric) - metric_of_ranks(theirs, metric)
    tested = randomisation_test(differences)
    assert not tested.exact.any()
    for place in range(4):
        expected = scipy_p(differences[:, place], 10_000)
        # Both are drawn, and scipy doubles a tail where we count two.
        error = 4 * math.sqrt(2 * expected * (1 - expected) / 10_000 * 2) + 2e-4
        assert tested.p[place] == pytest.approx(expected, abs=error)


def test_a_drawn_p_value_is_never_zero_and_repeats():
    differences = np.ones((200, 1))
    assert randomisation_test(differences, n_resamples=999).p[0] == 1 / 1000
    noise = np.random.default_rng(3).normal(size=(200, 2))
    assert randomisation_test(noise, seed=5).p.tolist() == randomisation_test(noise, seed=5).p.tolist()
    assert randomisation_test(noise, seed=5).p.tolist() != randomisation_test(noise, seed=6).p.tolist()


def test_blocks_of_resamples_are_all_counted(monkeypatch):
    noise = np.random.default_rng(3).normal(size=(50, 2))
    whole = randomisation_test(noise, n_resamples=1000).p, bootstrap_means(noise, 1000)
    monkeypatch.setattr("recbole_session.report.significance._BLOCK", 50 * 7)
    pieces = randomisation_test(noise, n_resamples=1000).p, bootstrap_means(noise, 1000)
    assert pieces[1].shape == whole[1].shape == (1000, 2)
    assert np.abs(pieces[0] - whole[0]).max() < 0.06
    assert np.abs(pieces[1].std(0) - whole[1].std(0)).max() < 0.02


def test_without_any_effect_five_in_a_hundred_are_called_significant():
    generator = np.random.default_rng(7)
    values = metric_of_ranks(generator.integers(1, 30, size=(2, 120, 1000)), "ndcg@10")
    p = randomisation_test(values[0] - values[1], n_resamples=2000).p
    assert 0.03 < np.mean(p < 0.05) < 0.07  # 5% +- three standard errors
    assert 0.45 < np.mean(p < 0.5) < 0.55


def test_holm_by_hand():
    # Sorted 0.01 0.03 0.04, times 3 2 1: 0.03 0.06 0.04, and none smaller than the one before.
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.6, 0.9])).tolist() == pytest.approx([1.0, 1.0])
    assert holm(np.array([])).tolist() == []


def test_bootstrap_means_are_of_users_drawn_with_replacement():
    values = np.array([[0.0, 0.0], [1.0, 10.0], [5.0, 50.0]])
    means = bootstrap_means(values, 3000)
    assert means.shape == (3000, 2)
    assert means[:, 1] == pytest.approx(10 * means[:, 0])  # the same users in both columns
    assert set(np.round(means[:, 0] * 3).astype(int)) == {0, 1, 2, 3, 5, 6, 7, 10, 11, 15}
    assert means[:, 0].mean() == pytest.approx(2, abs=0.1)
    assert np.mean(means[:, 0] == 0) == pytest.approx(1 / 27, abs=0.015)


def test_intervals_agree_with_scipy():
    values = metric_of_ranks(np.random.default_rng(2).integers(1, 40, size=400), "ndcg@10")
    low, high = percentile_interval(bootstrap_means(values[:, None]))
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(3)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert low[0] == pytest.approx(theirs.low, abs=0.04 * width)
    assert high[0] == pytest.approx(theirs.high, abs=0.04 * width)


def test_standardised_means_by_hand():
    differences = np.array([[1.0, 0.0, 0.1], [2.0, 0.0, 0.1], [3.0, 0.0, 0.1], [-2.0, 0.0, 0.1], [0.0, 0.0, 0.1]])
    # Mean 0.8, squares of deviations 0.04 1.44 4.84 7.84 0.64: 14.8 / 4.
    first, none, constant = standardised_means(differences)
    assert (first, none) == pytest.approx((0.8 / math.sqrt(3.7), 0.0))
    assert math.isnan(constant)
    assert math.isnan(standardised_means(np.array([[0.1]]))[0])
