"""Whether one method is better than another, when both the users and the trainings are a sample.

Two trainings of one method with different seeds give two models, and these are never equally good for the whole
population. A test that takes the users alone as its sample asks about the two models and finds them different if
there are enough users. The question about the methods has a second sample, the seeds, and its error must be counted
too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from recbole_session.errors import InputError

Floats = NDArray[np.float64]


class MethodTest(NamedTuple):
    """Outcome of `compare_methods`.

    Attributes
    ----------
    difference : float
        Mean of ours less that of the baseline.
    error_of_users, error_of_seeds : float
        Standard errors of the difference, from the draw of the users and from that of the seeds.
    degrees : float
        Degrees of freedom; infinite where there is no error at all.
    p : float
        Two-sided.
    """

    difference: float
    error_of_users: float
    error_of_seeds: float
    degrees: float
    p: float


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
    seeds it is the paired t-test over users, without differences between users it is Welch's t-test over seeds. What
    belongs to a user and a seed together enters twice, so that the test errs on the safe side.

    Parameters
    ----------
    ours, baseline : ndarray
        float64 ``[S, U]``, a row per seed, a column per user; the same users in the same order.

    Raises
    ------
    InputError
        For fewer than two seeds or users, or different users.
    """
    if ours.shape[1] != baseline.shape[1] or ours.shape[1] < 2:
        raise InputError(
            f"{ours.shape[1]} and {baseline.shape[1]} users cannot be compared; give the same, two or more"
        )
    if min(len(ours), len(baseline)) < 2:
        raise InputError("one training says nothing about the next one: comparing methods needs at least two seeds")
    differences = ours.mean(0) - baseline.mean(0)  # [U]
    variances = [differences.var(ddof=1) / len(differences)]
    variances += [runs.mean(1).var(ddof=1) / len(runs) for runs in (ours, baseline)]
    freedoms = (len(differences) - 1, len(ours) - 1, len(baseline) - 1)
    difference, total = float(differences.mean()), float(sum(variances))
    errors = (math.sqrt(variances[0]), math.sqrt(variances[1] + variances[2]))
    if total == 0:
        return MethodTest(difference, *errors, math.inf, 1.0 if difference == 0 else 0.0)
    degrees = total**2 / sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
    p = 2 * float(student.sf(abs(difference) / math.sqrt(total), degrees))
    return MethodTest(difference, *errors, float(degrees), p)
