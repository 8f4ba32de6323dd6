"""The gate: a real improvement passes, luck does not; how often equal configurations pass is
simulated.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowersweep.evaluation.gate import (
    Candidate,
    compare_with_champion,
    compare_with_chance,
    pooled_variance,
    select_one_se,
    spent_alpha,
    spent_budget,
)
from flowersweep.evaluation.scores import macro_f1

CLASSES, IMAGES = 10, 400
LABELS = np.arange(IMAGES) % CLASSES


def trained(
    chance: np.random.Generator, hard: np.ndarray, skill: float, spread: float
) -> np.ndarray:
    """Logits of one training: images are hard or easy for every network, a seed moves the skill and
    what each image looks like.
    """
    mine = skill + spread * chance.normal()
    margin = mine - hard + chance.normal(scale=0.7, size=len(hard))
    logits = chance.normal(scale=0.1, size=(len(hard), CLASSES))
    wrong = (LABELS[: len(hard)] + chance.integers(1, CLASSES, len(hard))) % CLASSES
    logits[np.arange(len(hard)), np.where(margin > 0, LABELS[: len(hard)], wrong)] += 3
    return logits


def study(
    chance: np.random.Generator, skills: list[float], spread: float = 0.1
) -> tuple[list[Candidate], np.ndarray]:
    """Candidates with three seeds each, and a champion of skill 1.5, on the same images."""
    tune, report = (chance.normal(size=IMAGES) for _ in range(2))
    found = []
    for number, skill in enumerate(skills):
        # by seed: the same network is scored on both halves
        own = skill + spread * chance.normal(size=3)
        logits = [trained(chance, report, each, 0.0) for each in own]
        scores = [macro_f1(trained(chance, tune, each, 0.0), LABELS, CLASSES) for each in own]
        found.append(Candidate(f"trial {number}", number, scores, logits))
    return found, trained(chance, report, 1.5, spread)


def promoted(candidates: list[Candidate], champion: np.ndarray) -> bool:
    chosen = candidates[select_one_se(candidates, maximize=True)]
    return compare_with_champion(
        chosen.holdout, champion, LABELS, [each.holdout for each in candidates], samples=200
    ).better


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.3], ids=["images alone", "both", "mostly seeds"])
def test_equal_configurations_are_promoted_in_at_most_one_of_twenty_cases(spread: float) -> None:
    chance, runs = np.random.default_rng(0), 200
    assert sum(promoted(*study(chance, [1.5] * 4, spread)) for _ in range(runs)) / runs <= 0.05


def crowned(chance: np.random.Generator, promotions: int, *, spending: bool) -> bool:
    """Whether luck passes in any of so many promotions of equal candidates, all of them on the same
    held-out images.
    """
    holdout = chance.normal(size=IMAGES)
    champion = trained(chance, holdout, 1.5, 0.0)
    for number in range(1, promotions + 1):
        candidate = [trained(chance, holdout, 1.5, 0.0)]
        comparison = number if spending else 1
        if compare_with_champion(
            candidate, champion, LABELS, [candidate], comparison=comparison, samples=100
        ).better:
            return True
    return False


@pytest.mark.slow
def test_of_twenty_promotions_on_the_same_images_luck_passes_in_at_most_one_of_twenty_cases() -> (
    None
):
    runs = 60
    spent, unspent = (
        sum(crowned(np.random.default_rng(run), 20, spending=spending) for run in range(runs))
        / runs
        for spending in (True, False)
    )
    assert spent <= 0.05
    assert unspent > 0.1, "what asking the same images again and again does without accounting"


def test_the_levels_of_all_comparisons_are_five_percent_together() -> None:
    assert spent_alpha(1) == 0.025
    assert sum(spent_alpha(k) for k in range(1, 10_000)) == pytest.approx(0.05, rel=1e-3)
    assert spent_budget(7) == pytest.approx(sum(spent_alpha(k) for k in range(1, 8)))
    with pytest.raises(ValueError, match="count from 1"):
        spent_alpha(0)


def test_of_twenty_promotions_of_candidates_with_seeds_luck_passes_in_one_of_twenty_cases() -> None:
    """Each promotion chooses among two equal candidates of two seeds; who wins is the champion."""

    def any_wrong(chance: np.random.Generator) -> bool:
        tune, holdout = chance.normal(size=IMAGES), chance.normal(size=IMAGES)
        champion = trained(chance, holdout, 1.5, 0.1)
        for comparison in range(1, 21):
            candidates = []
            for name in ("a", "b"):
                own = 1.5 + 0.1 * chance.normal(size=2)
                scores = [macro_f1(trained(chance, tune, s, 0.0), LABELS, CLASSES) for s in own]
                logits = [trained(chance, holdout, skill, 0.0) for skill in own]
                candidates.append(Candidate(name, 1, scores, logits))
            chosen = candidates[select_one_se(candidates, maximize=True)]
            seeds = [each.holdout for each in candidates]
            if compare_with_champion(
                chosen.holdout, champion, LABELS, seeds, comparison=comparison, samples=60
            ).better:
                return True
        return False

    runs = 40
    assert sum(any_wrong(np.random.default_rng(run)) for run in range(runs)) / runs <= 0.05


def guesses(chance: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    return chance.normal(size=(len(labels), CLASSES))


def test_of_twenty_promotions_of_guesses_none_is_better_than_chance_in_nineteen_of_twenty() -> None:
    def any_wrong(chance: np.random.Generator) -> bool:
        return any(
            compare_with_chance([guesses(chance, LABELS)], LABELS, comparison=k).better
            for k in range(1, 21)
        )

    runs = 60
    assert sum(any_wrong(np.random.default_rng(run)) for run in range(runs)) / runs <= 0.05


def test_a_prediction_that_is_the_same_everywhere_is_never_better_than_chance() -> None:
    labels = np.where(np.arange(IMAGES) < 0.9 * IMAGES, 0, 1)  # nine of ten are right
    constant = np.tile([1.0, 0.0], (IMAGES, 1))
    found = compare_with_chance([constant, constant], labels)
    assert (found.better, found.p) == (False, 1.0)
    assert found.value == pytest.approx(found.chance)


def test_a_useful_model_is_better_than_chance_also_at_the_twentieth_time() -> None:
    chance = np.random.default_rng(5)
    logits = [trained(chance, chance.normal(size=IMAGES), 0.5, 0.1) for _ in range(3)]
    found = compare_with_chance(logits, LABELS, comparison=20)
    assert found.better
    assert found.value == pytest.approx(np.mean([macro_f1(x, LABELS, CLASSES) for x in logits]))
    assert found.chance == pytest.approx(0.1, abs=0.01)
    # of eight images six are enough
    few = np.arange(8) % 4
    eight = np.eye(4)[np.where(np.arange(8) < 6, few, (few + 1) % 4)]
    assert compare_with_chance([eight], few).better


def test_the_best_of_fifty_beats_the_baseline_nearly_always() -> None:
    chance, runs = np.random.default_rng(1), 40
    wrong = 0
    for _ in range(runs):
        tune = chance.normal(size=IMAGES)
        scores = [macro_f1(trained(chance, tune, 1.5, 0.1), LABELS, CLASSES) for _ in range(51)]
        wrong += max(scores[1:]) > scores[0]
    assert wrong / runs >= 0.9, "what promoting the best of a sweep does when all are equal"


def test_a_real_improvement_passes() -> None:
    chance, runs = np.random.default_rng(2), 20
    assert sum(promoted(*study(chance, [1.5, 2.6, 2.6])) for _ in range(runs)) >= 0.9 * runs


def test_of_candidates_within_one_standard_error_the_simplest_is_chosen() -> None:
    def candidate(name: str, changes: int, *tune: float) -> Candidate:
        return Candidate(name, changes, tune, [])

    far, near, default = (
        candidate("far", 5, 0.30, 0.31, 0.32),
        candidate("near", 2, 0.305, 0.315, 0.325),
        candidate("d", 0, 0.5, 0.51, 0.52),
    )
    assert pooled_variance([far.tune, near.tune])[0] == pytest.approx(1e-4)
    # .315 is within .0058 of .310, and changes less
    assert select_one_se([far, near, default], maximize=False) == 1
    assert select_one_se([far, default], maximize=False) == 0
    assert select_one_se([far, near, default], maximize=True) == 2
    alone = candidate("alone", 3, 0.4)
    # with one seed there is no error to be within
    assert select_one_se([alone, candidate("d", 0, 0.41)], maximize=False) == 0


def test_what_would_settle_a_difference_settles_it() -> None:
    chance = np.random.default_rng(3)
    candidates, champion = study(chance, [1.55], spread=0.01)
    chosen = candidates[0]
    found = compare_with_champion(chosen.holdout, champion, LABELS, [chosen.holdout])
    assert found.low <= 0 < found.value
    assert found.seeds < found.images
    enough = found.images * math.sqrt(IMAGES / (IMAGES + found.more_images))
    assert math.hypot(enough, found.seeds) * 2.8016 == pytest.approx(found.value, rel=0.01)
    worse = compare_with_champion([champion], chosen.holdout[0], LABELS, [[champion]])
    assert (worse.more_images, worse.more_seeds, worse.seeds) == (math.inf, math.inf, 0.0)


def test_a_model_is_not_better_than_itself() -> None:
    logits = trained(np.random.default_rng(4), np.zeros(IMAGES), 0.5, 0.0)
    found = compare_with_champion([logits], logits, LABELS, [[logits]])
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert not found.better
