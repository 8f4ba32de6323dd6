"""Estimate from the trials of a study what as many quasi-random trials would have found.

The trials of an adaptive sampler crowd where it is good, so they cannot be resampled. A model of
the objective over the space can be asked anywhere, and says where it does not know.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from flowersweep.evaluation.scores import Reals
from flowersweep.evaluation.statistics import CONFIDENCE, Estimate

DRAWS = 20  # functions of the model for each set of points


def best_of_points(
    points: Reals,
    values: Reals,
    others: Sequence[Reals],
    *,
    maximize: bool,
    seed: int = 0,
) -> Estimate:
    """Return what the best of each set of ``others`` (k, d) would be, from ``values`` (n,) at
    ``points`` (n, d) in the unit cube.

    The objective is taken for a Gaussian process with a Matérn kernel (smoothness 5/2, a length for
    each coordinate) and noise, fitted by maximum likelihood (Rasmussen & Williams 2006, ch. 2 and
    5); the interval is over its functions, its noise and the sets of points.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    lengths = np.full(points.shape[1], 0.5)
    shape = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(lengths, (0.05, 20.0), nu=2.5) + WhiteKernel(
        0.05, (1e-5, 1.0)
    )
    model = GaussianProcessRegressor(
        shape, normalize_y=True, n_restarts_optimizer=1, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a length at its bound: the coordinate does not matter
        model.fit(points, values)
        # with the kernel's noise
        seen = [model.sample_y(each, DRAWS, random_state=seed + n) for n, each in enumerate(others)]
    best = np.concatenate([each.max(axis=0) if maximize else each.min(axis=0) for each in seen])
    low, middle, high = np.quantile(best, [(1 - CONFIDENCE) / 2, 0.5, (1 + CONFIDENCE) / 2])
    return Estimate(float(middle), float(low), float(high))
