"""Statistics of ranks as functions of plain arrays: intervals, paired tests and effect sizes.

The sample is the users. Where a model was trained with several seeds, a user's value is the mean over them, so every
user counts once. The results hold for these trained models; `compare_methods` tests whether they hold for the methods.
docs/statistics.md explains more.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from recbole_session.errors import InputError

Floats = NDArray[np.float64]

N_RESAMPLES = 10_000
SEED = 2020

_BLOCK = 4_000_000  # entries of a resampling matrix held at once: 32 MB


def bootstrap_means(values: Floats, n_resamples: int = N_RESAMPLES, seed: int = SEED) -> Floats:
    """Means of resampled users, float64 ``[n_resamples, C]``, of ``values``, float64 ``[U, C]``, users by columns.

    Every resample draws as many users as there are, with replacement (Efron, Annals of Statistics 7(1), 1979). All
    columns share the draws, so a difference of two columns is resampled in pairs. `scipy.stats.bootstrap` takes 5
    times as long on 943 users x 48 columns.
    """
    generator = np.random.default_rng(seed)
    n_users = len(values)
    means = np.empty((n_resamples, values.shape[1]))
    step = max(1, _BLOCK // n_users)
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        drawn = generator.integers(n_users, size=(size, n_users)) + n_users * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n_users).reshape(size, n_users)
        means[start : start + size] = counts.astype(np.float64) @ values / n_users
    return means


def percentile_interval(means: Floats) -> tuple[Floats, Floats]:
    """95% bootstrap percentile interval of every column: ends ``[C]`` (Efron & Tibshirani 1993, chapter 13)."""
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return low, high


class PValues(NamedTuple):
    """Two-sided p-values ``[T]``; ``exact`` is True where all sign flips were enumerated, bool ``[T]``."""

    p: Floats
    exact: NDArray[np.bool_]


def randomisation_test(differences: Floats, n_resamples: int = N_RESAMPLES, seed: int = SEED) -> PValues:
    """Paired randomisation tests of mean differences, float64 ``[U, T]``, a column per test.

    If the two models were exchangeable, each user's difference could as well have the opposite sign. The p-value is
    the share of sign flips whose mean difference is at least as far from zero as the observed one (Fisher, The Design
    of Experiments, 1935; for information retrieval: Smucker, Allan & Carterette, CIKM 2007). Where the users that
    differ have at most ``n_resamples`` flips, all are enumerated; else ``n_resamples`` are drawn and
    ``p = (b + 1) / (n + 1)``, which is never 0 (Phipson & Smyth, 2010). `scipy.stats.permutation_test` with
    ``permutation_type="samples"`` is the same test, but draws flips for each column: it takes 20 to 75 times as long
    on 943 users x 48 columns.
    """
    n_differ = np.count_nonzero(differences, axis=0)
    exact = n_differ <= int(np.log2(n_resamples))
    p = np.ones(differences.shape[1])
    for column in np.flatnonzero(exact & (n_differ > 0)):
        p[column] = _enumerated_p(differences[differences[:, column] != 0, column])
    if not exact.all():
        drawn = differences[:, ~exact]
        p[~exact] = _drawn_p(drawn[(drawn != 0).any(axis=1)], n_resamples, seed)
    return PValues(p, exact)


def _enumerated_p(differences: Floats) -> float:
    """Share of all sign flips of ``differences`` ``[n]`` that are at least as extreme as the observed signs."""
    n = len(differences)
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    sums = (1.0 - 2.0 * bits) @ differences
    return float(np.mean(np.abs(sums) >= _threshold(differences)))


def _drawn_p(differences: Floats, n_resamples: int, seed: int) -> NDArray[Any]:
    """Monte Carlo p-values of the columns of ``differences`` ``[U, T]``; all share the flips."""
    generator = np.random.default_rng(seed)
    n_users, n_tests = differences.shape
    threshold, total = _threshold(differences), differences.sum(axis=0)
    as_extreme = np.zeros(n_tests, dtype=np.int64)
    step = max(1, _BLOCK // n_users)
    for start in range(0, n_resamples, step):
        kept = generator.integers(0, 2, size=(min(step, n_resamples - start), n_users), dtype=np.int8)
        sums = 2 * (kept.astype(np.float64) @ differences) - total
        as_extreme += np.count_nonzero(np.abs(sums) >= threshold, axis=0)
    return (as_extreme + 1.0) / (n_resamples + 1.0)


def _threshold(differences: Floats) -> Any:
    """Sum that counts as extreme as the observed one; the margin keeps ties that rounding would break."""
    return np.abs(differences.sum(axis=0)) - 1e-12 * np.abs(differences).sum(axis=0)


def holm(p: Floats) -> Floats:
    """Adjust the p-values ``[T]`` of one family so that its familywise error rate holds.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2), 1979:
    the i-th smallest of m is multiplied by ``m - i + 1``, and none may be smaller than the one before it. scipy has
    no such function.
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def standardised_means(differences: Floats) -> Floats:
    """Cohen's d_z of paired differences ``[U, T]``: their mean over their standard deviation, ``[T]``.

    Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, section 2.3.5. It is 0 where no user differs,
    and NaN where all differ by the same or there is one user.
    """
    mean = differences.mean(axis=0)
    deviation = differences.std(axis=0, ddof=1) if len(differences) > 1 else np.zeros_like(mean)
    is_known = deviation > 1e-12 * np.abs(mean)
    return np.where(is_known, mean / np.where(is_known, deviation, 1.0), np.where(mean == 0, 0.0, np.nan))


class MethodTest(NamedTuple):
    """Outcome of `compare_methods`, float64 ``[...]`` each."""

    difference: Floats  # mean of ours less that of the baseline
    error_of_users: Floats  # standard errors of the difference, from the draw of the users
    error_of_seeds: Floats  # and from that of the seeds
    degrees: Floats  # of freedom; infinite where there is no error at all
    p: Floats  # two-sided


def compare_methods(ours: Floats, baseline: Floats) -> MethodTest:
    r"""Test whether two methods are equally good on average, where both the users and the trainings are a sample.

    Two trainings of one method with different seeds are never equally good for the whole population, so a test over
    users alone finds them different if there are enough users. This one counts the error of the seeds too.

    With values :math:`y_{su}`, their means :math:`\bar y_{\cdot u}` over seeds and :math:`\bar y_{s \cdot}` over users:

    .. math::

        V_{users} &= \frac{1}{U} \operatorname{var}_u (\bar y_{\cdot u} - \bar y^0_{\cdot u}) \qquad
        V = \frac{1}{S} \operatorname{var}_s (\bar y_{s \cdot}) \qquad
        V^0 = \frac{1}{S^0} \operatorname{var}_s (\bar y^0_{s \cdot})

        t &= \frac{\bar y - \bar y^0}{\sqrt{V_{users} + V + V^0}} \qquad
        \nu = \frac{(V_{users} + V + V^0)^2}{V_{users}^2 / (U - 1) + V^2 / (S - 1) + (V^0)^2 / (S^0 - 1)}

    and the p-value is that of Student's t with :math:`\nu` degrees of freedom (Satterthwaite, "An approximate
    distribution of estimates of variance components", Biometrics Bulletin 2(6), 1946). Without differences between
    seeds it is the paired t-test over users, without differences between users it is Welch's t-test over seeds. An
    effect of one user in one training counts twice, so the test errs on the safe side.

    ``ours`` and ``baseline`` are float64 ``[S, U, ...]``, seeds by users, the same users in the same order; each
    further entry is a test. Fewer than two seeds or users, or different users, are an `InputError`.
    """
    if ours.shape[1] != baseline.shape[1] or ours.shape[1] < 2:
        raise InputError(
            f"{ours.shape[1]} and {baseline.shape[1]} users cannot be compared; give the same users, at least two"
        )
    if min(len(ours), len(baseline)) < 2:
        raise InputError("one training says nothing about the next one; give at least two seeds of both methods")
    differences = ours.mean(0) - baseline.mean(0)  # [U, ...]
    variances = [differences.var(0, ddof=1) / len(differences)]
    variances += [runs.mean(1).var(0, ddof=1) / len(runs) for runs in (ours, baseline)]
    freedoms = (len(differences) - 1, len(ours) - 1, len(baseline) - 1)
    difference, total = differences.mean(0), np.asarray(sum(variances))
    errors = np.sqrt(variances[0]), np.sqrt(variances[1] + variances[2])
    with np.errstate(divide="ignore", invalid="ignore"):  # without any error, p is 0, or 1 where nothing differs
        spread = sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
        degrees = np.where(total == 0, np.inf, total**2 / spread)
        p = 2 * student.sf(np.abs(difference) / np.sqrt(total), degrees)
    return MethodTest(difference, *errors, degrees, np.where((total == 0) & (difference == 0), 1.0, p))
