"""The parameter that decides is found to be the most important, and how sure that is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowersweep.report.checks.importance import _shares, _trials, importances, top_fraction
from flowersweep.report.study_view import StudyView, load_study
from tests.report.made_up import MadeUp, Play, focal, smoothed


def planted(folder: Path, trials: int, pruned: float | None = None) -> StudyView:
    """A study in which the rate alone decides; bad trials are pruned with this value, if one is
    given.
    """
    rng = np.random.default_rng(0)
    plays = []
    for number in range(trials):
        rate = float(10 ** rng.uniform(-3.2, -1.4))
        params = (
            smoothed(float(rng.uniform(0, 0.3)), rate)
            if number % 2
            else focal(float(rng.uniform(0.5, 5)), rate)
        )
        far = abs(float(np.log10(rate)) + 2)
        ended = far <= 0.5 or pruned is None
        plays.append(Play(params, far if ended else pruned, "complete" if ended else "pruned"))
    return load_study(MadeUp(plays).write(folder))


def test_the_parameter_that_decides_comes_first_with_its_interval(tmp_path: Path) -> None:
    found = importances(planted(tmp_path, 40))
    assert found[0].name == "learning_rate"
    assert found[0].low > max(each.share for each in found[1:])
    assert {each.name for each in found} == {"learning_rate", "loss", "label_smoothing", "gamma"}
    assert all(0 <= each.low <= each.share <= each.high <= 1 for each in found)


def test_pruned_trials_count_among_the_worse_ones_whatever_they_had_reached(tmp_path: Path) -> None:
    to_the_end, worse, seemingly_best = (
        importances(planted(tmp_path / str(value), 40, value)) for value in (None, 9.0, 0.0)
    )
    assert worse == seemingly_best
    assert {each.name: each.share for each in worse} == {
        each.name: each.share for each in to_the_end
    }


def test_nothing_is_said_of_few_trials_and_values_outside_the_range_are_left_out(
    tmp_path: Path,
) -> None:
    assert importances(planted(tmp_path, 9)) == []
    outside = MadeUp([Play(smoothed(0.1, 9.0), 0.3)] * 20, name="outside").write(tmp_path)
    assert importances(load_study(outside)) == []


def test_a_whole_study_and_its_halves_ask_for_the_same_share_of_good_trials(tmp_path: Path) -> None:
    assert [top_fraction(trials) for trials in (5, 10, 20, 100)] == [0.5, 0.5, 0.25, 0.1]
    whole = {row.name: row.share for row in importances(planted(tmp_path, 20))}
    assert whole == _shares(
        _trials(load_study(tmp_path / "made_up")),
        load_study(tmp_path / "made_up"),
        top_fraction(10),
    )
