"""What is written in Hydra's sweep grammar is read as the distribution that it was."""

from __future__ import annotations

from hypothesis import example, given
from optuna.distributions import BaseDistribution, CategoricalDistribution

from flowersweep.space.grammar import parse_distribution, to_hydra
from tests.space.distributions import distributions


@given(distributions)
@example(CategoricalDistribution(["a, b", "null", "1", "it's", "", "\\", "sgd", True]))
def test_a_distribution_is_read_as_it_was_written(distribution: BaseDistribution) -> None:
    assert parse_distribution("x", to_hydra(distribution)) == distribution
