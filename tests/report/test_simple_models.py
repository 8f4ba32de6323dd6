"""The simplest models on the page of a study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowersweep.report.simple_models import finding
from flowersweep.report.study_page import sections
from flowersweep.report.study_view import StudyView, load_study
from flowersweep.report.summary import StudySummary, summarise
from flowersweep.study.baselines import FILE
from flowersweep.util.arrays import write_arrays
from tests.report.made_up import CLASSES, MadeUp, Play


def with_baselines(folder: Path, skill: float) -> StudyView:
    """A study of one trial, next to a logistic regression of some skill."""
    study = load_study(MadeUp([Play({}, value=0.4, skill=1.0)]).write(folder))
    predictions = study.predictions(0)
    assert predictions is not None
    labels, rng = predictions.holdout_labels, np.random.default_rng(3)
    regression = rng.normal(size=(len(labels), CLASSES)) + skill * np.eye(CLASSES)[labels]
    frequent = np.tile(np.eye(CLASSES)[0], (len(labels), 1))
    logits = {"most frequent class": frequent, "logistic regression": regression}
    write_arrays(study.folder / FILE, {**logits, "holdout_labels": labels})
    return study


def page(summary: StudySummary) -> str:
    return str(next(each for each in sections(summary) if each.name == "baselines"))


@pytest.mark.parametrize(("skill", "said"), [(9.0, "worse than"), (0.0, "better than")])
def test_the_finding_is_said_in_words_with_its_interval(
    tmp_path: Path, skill: float, said: str
) -> None:
    summary = summarise(with_baselines(tmp_path, skill))
    title = f"The best trial is {said} a logistic regression on the same features"
    assert title in [item.title for item in summary.audit_items]
    text = page(summary)
    assert title in text
    for part in ("best trial", "most frequent class", "95 % interval", "best trial minus this"):
        assert part in text


def test_a_trial_that_is_as_good_is_not_better(tmp_path: Path) -> None:
    summary = summarise(with_baselines(tmp_path, 1.0))
    item = finding(summary.simple_models)
    assert item is not None
    assert item.kind == "warning"
    assert "not better than a logistic regression" in item.title


def test_a_page_without_baselines_says_why(tmp_path: Path) -> None:
    study = load_study(MadeUp([Play({}, value=0.4, skill=1.0)]).write(tmp_path))
    assert "No baselines were fitted" in page(summarise(study))
    study.started.config["train"] = {"finetune": True}
    assert "not computed for this fine-tuned study" in page(summarise(study))
