"""Whether one method is better than another, when both the users and the trainings are a sample.

Two trainings of one method with different seeds give two models, and these are never equally good for the whole
population. A test that takes the users alone as its sample compares the two models and finds them different if there
are enough users. A test of the methods has a second sample, the seeds, and must count its error too.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from recbole_session.errors import InputError
from recbole_session.report.significance import Floats


class MethodTest(NamedTuple):
    """Outcome of `compare_methods`, float64 ``[...]`` each.

    Attributes
    ----------
    difference : ndarray
        Mean of ours less that of the baseline.
    error_of_users, error_of_seeds : ndarray
        Standard errors of the difference, from the draw of the users and from that of the seeds.
    degrees : ndarray
        Degrees of freedom; infinite where there is no error at all.
    p : ndarray
        Two-sided.
    """

    difference: Floats
    error_of_users: Floats
    error_of_seeds: Floats
    degrees: Floats
    p: Floats


def compare_methods(ours: Floats, baseline: Floats) -> MethodTest:
    r"""Test whether two methods are equally good on average over users and seeds.

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

    Parameters
    ----------
    ours, baseline : ndarray
        float64 ``[S, U, ...]``, seeds by users; the same users in the same order. Each further entry is a test.

    Raises
    ------
    InputError
        For fewer than two seeds or users, or different users.
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
