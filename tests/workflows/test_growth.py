"""A long sweep does not grow."""

from __future__ import annotations

import pytest

from bench.growth import growth, measure


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "trials"), [("head", 80), ("finetuned", 50)])
def test_memory_descriptors_threads_and_temporary_files_are_flat(kind: str, trials: int) -> None:
    slopes = growth(measure(kind, trials))
    assert slopes["megabytes"] < 0.3, slopes  # a program that is compiled for each trial takes more
    assert slopes["descriptors"] < 0.02, slopes
    assert slopes["threads"] < 0.02, slopes
    assert slopes["temporary files"] < 0.02, slopes
