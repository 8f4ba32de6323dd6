"""A share of a distribution and the value at it are each other's inverse."""

from __future__ import annotations

import pytest
from hypothesis import given
from optuna.distributions import BaseDistribution, FloatDistribution

from flowersweep.space.transforms import cdf, nearest_value, ppf
from tests.space.distributions import distributions, intervals, numeric, shares


def in_range(distribution: BaseDistribution, value: float) -> bool:
    return distribution._contains(distribution.to_internal_repr(value))


@given(distributions, shares)
def test_every_share_has_a_value_of_the_distribution(
    distribution: BaseDistribution, share: float
) -> None:
    assert in_range(distribution, ppf(distribution, share))


@given(numeric, shares)
def test_the_share_of_a_value_leads_back_to_the_value(
    distribution: BaseDistribution, share: float
) -> None:
    value = ppf(distribution, share)
    again = ppf(distribution, cdf(distribution, value))
    if isinstance(distribution, FloatDistribution) and distribution.step is None:
        assert again == pytest.approx(value, rel=1e-9, abs=1e-9)
    else:
        assert again == value


@given(intervals(), shares)
def test_the_value_at_a_share_leads_back_to_the_share(
    distribution: FloatDistribution, share: float
) -> None:
    assert cdf(distribution, ppf(distribution, share)) == pytest.approx(share, abs=1e-7)


@given(distributions, shares)
def test_a_value_of_the_distribution_is_its_own_nearest(
    distribution: BaseDistribution, share: float
) -> None:
    value = ppf(distribution, share)
    assert nearest_value(distribution, value) == (
        value if isinstance(value, str | bool | None) else pytest.approx(value)
    )
