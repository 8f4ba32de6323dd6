"""The page says which held-out images were not held out, and what a plain search would find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from flowersweep.data.duplicates import Duplicates, ImageLocation
from flowersweep.evaluation.scores import macro_f1
from flowersweep.report.checks.baseline import baseline
from flowersweep.report.checks.leakage import finding, leakage
from flowersweep.report.study_view import StudyView, load_study
from flowersweep.report.summary import StudySummary
from flowersweep.space.designs import quasi_random
from flowersweep.space.space import Parameter, Space
from tests.report.made_up import MadeUp, Play, altered


def test_leaked_images_are_counted_named_and_left_out_of_the_score(study: StudyView) -> None:
    assert study.best is not None
    kept = study.predictions(study.best.number)
    assert kept is not None
    wrong = np.flatnonzero(kept.holdout.argmax(axis=1) != kept.holdout_labels)[:3]
    rows = np.arange(1000, 1000 + len(kept.holdout_labels))
    pairs = [(ImageLocation("train", 5), ImageLocation("holdout", int(rows[at]))) for at in wrong]
    found = finding(
        Duplicates([*pairs, (ImageLocation("train", 1), ImageLocation("test", 2))], rows), kept
    )
    assert (found.kind, found.title[:16]) == ("warning", "3 of 200 held-ou")
    assert f"train 5 = val {rows[wrong[0]]}" in found.text
    assert "1 between train and test (train 1 = test 2)" in found.text
    rest = np.delete(np.arange(len(rows)), wrong)
    assert (
        f"{macro_f1(kept.holdout[rest], kept.holdout_labels[rest], 4):.4f} on the 197 that are new"
        in found.text
    )


def test_pairs_that_do_not_touch_the_held_out_half_are_a_note(study: StudyView) -> None:
    found = finding(
        Duplicates([(ImageLocation("train", 1), ImageLocation("test", 2))], np.arange(200)), None
    )
    assert (found.kind, "No held-out image" in found.title) == ("note", True)


def test_images_that_are_not_there_any_more_are_said_not_to_be(
    found: StudySummary, tmp_path: Path
) -> None:
    assert [each.title for each in found.audit_items if "Near-duplicate" in each.title] == [
        "Near-duplicate images were not searched for"
    ]
    silent = load_study(MadeUp([Play({}, 0.3)], name="silent").write(tmp_path))
    assert leakage(altered(silent, provenance={}), None) is None


SPACE = {name: {"path": f"train.{name}", "values": FloatDistribution(0, 1)} for name in "abc"}
PARAMETERS = tuple(
    Parameter(name, str(entry["path"]), FloatDistribution(0, 1), {})
    for name, entry in SPACE.items()
)


def searched(tmp_path: Path, near: float) -> StudyView:
    """A study of 12 quasi-random points and 12 around the optimum, which are ``near`` it."""
    rng = np.random.default_rng(0)
    points = [quasi_random(Space(PARAMETERS, {}, (), frozenset()), n, 0) for n in range(12)]
    points += [{name: 0.4 + near * float(rng.uniform(-1, 1)) for name in SPACE} for _ in range(12)]
    plays = [
        Play(each, 0.1 + sum((value - 0.4) ** 2 for value in each.values())) for each in points
    ]
    return load_study(MadeUp(plays, space=SPACE).write(tmp_path))


@pytest.mark.parametrize(
    ("near", "said"), [(0.05, "Better than 24 quasi"), (0.5, "Not surely better")]
)
def test_a_search_is_compared_with_a_plain_one_of_as_many_trials(
    near: float, said: str, tmp_path: Path
) -> None:
    found = baseline(searched(tmp_path, near))
    assert found is not None
    assert found.title.startswith(said), found.text


def test_a_search_is_compared_with_points_that_its_constraints_allow(tmp_path: Path) -> None:
    study = searched(tmp_path, 0.05)
    config = {
        **study.started.config,
        "sweep": {"constraints": ["a < 0.401 and train.b < 0.401"]},
    }  # what is left is near the optimum
    found, free = baseline(altered(study, config=config)), baseline(study)
    assert found is not None
    assert free is not None
    assert found.text != free.text
    unknown = {**config, "sweep": {"constraints": ["nothing < 1"]}}
    assert baseline(altered(study, config=unknown)) is None


def test_of_few_trials_and_of_a_plain_search_nothing_is_said(
    study: StudyView, tmp_path: Path
) -> None:
    assert baseline(study) is None
    plain = searched(tmp_path, 0.3)
    config = {**plain.started.config, "sampler": {"_target_": "qmc"}}
    assert baseline(altered(plain, config=config)) is None
