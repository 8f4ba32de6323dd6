"""Ties have their mean rank in a rank correlation; where it is undefined nothing is made up."""

from __future__ import annotations

import pytest

from flowersweep.evaluation.selection import spearman


def test_ties_are_counted_as_the_textbook_has_it() -> None:
    assert spearman([1, 1, 1, 1, 2], [5, 4, 3, 2, 1]) == pytest.approx(-0.7071, abs=1e-4)
    assert spearman([1, 2, 3], [2, 4, 9]) == pytest.approx(1)


def test_of_scores_that_are_all_the_same_there_is_no_rank_correlation() -> None:
    assert spearman([0.5, 0.5, 0.5], [1, 2, 3]) is None
    assert spearman([0.5], [1]) is None
