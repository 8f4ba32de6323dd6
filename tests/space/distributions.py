"""Distributions for property tests: every kind that a sweep can have."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

CHOICES = st.one_of(st.text(max_size=8), st.booleans(), st.integers(-9, 9), st.floats(-9, 9))


@st.composite
def stepped_floats(draw: st.DrawFn) -> FloatDistribution:
    """From a multiple of the step to another: 0, 0.25, 0.5."""
    step = Decimal(draw(st.sampled_from(["0.05", "0.1", "0.25", "0.5", "2.0"])))
    low = draw(st.integers(-5, 5))
    high = low + draw(st.integers(1, 12))
    return FloatDistribution(float(low * step), float(high * step), step=float(step))


@st.composite
def stepped_integers(draw: st.DrawFn) -> IntDistribution:
    low, step = draw(st.integers(-50, 50)), draw(st.integers(1, 7))
    return IntDistribution(low, low + draw(st.integers(1, 20)) * step, step=step)


@st.composite
def logarithmic_integers(draw: st.DrawFn) -> IntDistribution:
    low = draw(st.integers(1, 1000))
    return IntDistribution(low, low + draw(st.integers(1, 10**6)), log=True)


@st.composite
def intervals(draw: st.DrawFn) -> FloatDistribution:
    """Linear and logarithmic ones, of a width that numbers can resolve."""
    log = draw(st.booleans())
    low = draw(st.floats(1e-6, 100) if log else st.floats(-100, 100))
    width = draw(st.floats(1e-3, 1e4))
    return FloatDistribution(low, low * (1 + width) if log else low + width, log=log)


numeric = st.one_of(stepped_floats(), stepped_integers(), logarithmic_integers(), intervals())
# 1, 1.0 and True are one choice to Python
categorical = st.lists(CHOICES, min_size=1, max_size=5, unique=True).map(CategoricalDistribution)
distributions = st.one_of(numeric, categorical)
shares = st.floats(0, 1)
