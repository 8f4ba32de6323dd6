"""What KerasTuner is told of a value is taken back to the value."""

from __future__ import annotations

import pytest
from hypothesis import given
from optuna.distributions import BaseDistribution, FloatDistribution

from flowersweep.search.samplers.keras_tuner.encoding import decoded, encoded
from flowersweep.space.transforms import ppf
from tests.space.distributions import distributions, shares


@given(distributions, shares)
def test_a_value_that_was_encoded_is_decoded_as_it_was(
    distribution: BaseDistribution, share: float
) -> None:
    value = ppf(distribution, share)
    again = decoded(distribution, encoded(distribution, value))
    if isinstance(distribution, FloatDistribution):
        assert again == pytest.approx(value, rel=1e-9, abs=1e-9)
    else:
        assert again == value
