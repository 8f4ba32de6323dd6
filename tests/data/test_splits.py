"""halve: both halves look like the whole, whatever the class counts, and the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest

from flowersweep.data.splits import stratified_halves


@pytest.mark.parametrize("counts", [(10, 10), (1, 1, 1, 1), (3, 5, 7, 9, 1), (2,), (1,), (0, 4, 0, 3), (5, 106, 17)], ids=str)
def test_halves_differ_by_at_most_one_in_each_class_and_in_total(counts: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    tune, report = stratified_halves(labels, seed=1)
    assert sorted([*tune, *report]) == list(range(len(labels)))
    assert abs(len(tune) - len(report)) <= 1
    difference = np.bincount(labels[tune], minlength=len(counts)) - np.bincount(labels[report], minlength=len(counts))
    assert np.abs(difference).max() <= 1


def test_halves_are_the_same_on_every_machine() -> None:
    tune, report = stratified_halves(np.arange(12) % 3, seed=7)
    assert (list(tune), list(report)) == ([4, 6, 7, 8, 9, 11], [0, 1, 2, 3, 5, 10])


def test_another_seed_halves_differently() -> None:
    labels = np.zeros(50, int)
    assert not np.array_equal(stratified_halves(labels, 0)[0], stratified_halves(labels, 1)[0])
    assert np.array_equal(stratified_halves(labels, 0)[0], stratified_halves(labels, 0)[0])


def test_no_images_give_two_empty_halves() -> None:
    assert [len(half) for half in stratified_halves(np.array([], int), 0)] == [0, 0]
