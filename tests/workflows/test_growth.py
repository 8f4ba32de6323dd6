"""A long sweep does not grow."""

from __future__ import annotations

import pytest

from bench.growth import growth, measure


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "trials", "most"), [("head", 80, 1.0), ("finetuned", 60, 1.0)])
def test_memory_descriptors_threads_and_temporary_files_are_flat(
    kind: str, trials: int, most: float
) -> None:
    slopes = growth(measure(kind, trials))
    # one that is kept for each trial gives 1; the rest is room for MLflow's connections
    counts = {name: slope for name, slope in slopes.items() if name != "megabytes"}
    assert max(counts.values()) < 0.1, slopes
    assert slopes["megabytes"] < most, slopes  # a program that is kept for each trial takes more
