"""The model that is registered: trained on all labelled images, calibrated by its siblings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowersweep.config.compose import compose
from flowersweep.config.schema import Tracking, Train
from flowersweep.data.dataset import open_dataset
from flowersweep.data.pipeline import read_images
from flowersweep.errors import StudyError
from flowersweep.evaluation.scores import nll
from flowersweep.report.run_page import write_run_report
from flowersweep.study.records import read_study
from flowersweep.study.sentences import describe_best
from flowersweep.tracking import registry
from flowersweep.tracking.recorded import load_run
from flowersweep.tracking.shipper import run_ids
from flowersweep.workflows.promotion.refit import refit
from flowersweep.workflows.promotion.retraining import for_more_images
from flowersweep.workflows.promotion.single import run_promotion
from flowersweep.workflows.sweep import run_sweep
from tests.conftest import TINY

FINETUNED = [
    "train=finetune",
    "train.head_epochs=1",
    "train.epochs=2",
    "train.steps_per_epoch=2",
]


def model_of(run: str) -> tuple[float, np.ndarray, np.ndarray]:
    """Return a logged model's temperature and its logits on holdout and test."""
    facts = registry.model_metadata(Tracking(), Path("mlruns"), run=run)
    model = registry.load(Tracking(), Path("mlruns"), run=run)
    dataset = open_dataset(compose(TINY).data, Path("mlruns/cache"))
    holdout = read_images(dataset.splits["val"], dataset.holdout)
    test = read_images(dataset.splits["test"], range(len(dataset.splits["test"])))
    predicted = (model.predict(images, verbose=0) for images in (holdout, test))
    return facts["temperature"], *predicted


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["train.min_head_steps=40"], pytest.param(FINETUNED, marks=pytest.mark.slow)]
)
def test_a_registered_model_is_calibrated_and_its_refit_takes_the_temperature_of_its_siblings(
    words: list[str], project: Path, mlruns: Path
) -> None:
    trained = [*TINY, *words, "sweep.n_trials=1", "study=one"]
    outcome = run_sweep(compose(trained), trained)
    assert outcome.best is not None
    journal = mlruns / "studies" / "one" / "journal.jsonl"
    _, holdout, _ = model_of(run_ids(journal, Tracking(), mlruns).trials[0])
    stored = np.load(journal.parent / "trials" / "0" / "logits.npz")
    labels = stored["holdout_labels"]
    assert nll(holdout, labels) == pytest.approx(
        outcome.best.metrics["holdout/calibrated_nll"], rel=1e-3
    )

    asked = ["verb=promote", "study=one", "promotion.seeds=2", "progress=false"]
    Path("names.txt").write_text("a\nb\nc\nd\ne\n")
    for word, why in (
        (
            "data.classes=names.txt",
            r"5 classes, a to e, .* of the study one were 5 classes, salmon umbel 0",
        ),
        ("data.train_on=all", "so none is held out to decide by"),
    ):
        with pytest.raises(StudyError, match=why):
            run_promotion(compose([*asked, word]), [*asked, word], None)
    decision = run_promotion(compose(asked), asked, None)
    best = next(s for s in decision.siblings if s.number == decision.evidence["trial"])
    temperature, holdout, _ = model_of(decision.run)
    assert temperature == best.metrics["tune/temperature"]
    assert nll(holdout, labels) == pytest.approx(best.metrics["holdout/calibrated_nll"], rel=1e-3)

    run = refit(compose(asked), asked, decision)
    page = write_run_report(
        load_run(run, Tracking(), mlruns, project / "files"), project / "run.html", mlruns / "cache"
    )
    text = page.read_text()
    assert "trained on all labelled images, so no score here says how good it is" in text
    assert "onfusion" not in text
    folder = next(mlruns.glob("studies/one-refit-*"))
    record = read_study(folder).trials[0]
    assert "trained on all labelled images" in describe_best(folder, record, 1, "tune/nll")
    assert not [name for name in record.metrics if "holdout" in name]
    temperature, _, test = model_of(run)
    siblings = [sibling.metrics["tune/temperature"] for sibling in decision.siblings]
    assert len(siblings) == 2
    assert temperature == pytest.approx(np.sqrt(np.prod(siblings)))
    stored = np.load(folder / "trials" / "0" / "logits.npz")
    np.testing.assert_allclose(temperature * test, stored["test"], rtol=1e-2, atol=1e-2)
    # 70 images in place of 40
    path, steps = (
        ("train.steps_per_epoch", 4) if words == FINETUNED else ("train.min_head_steps", 70)
    )
    assert record.settings[path] == steps
    assert refit(compose(asked), asked, decision) == run  # it trains nothing, and is the same model
    assert len(read_study(folder).trials) == 1


def test_steps_are_in_proportion_to_the_images() -> None:
    assert for_more_images(Train(), 1.0) == Train()
    more = for_more_images(Train(min_head_steps=400, steps_per_epoch=30), 1.5)
    assert (more.min_head_steps, more.steps_per_epoch) == (600, 45)
