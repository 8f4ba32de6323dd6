"""A champion labels the images of test, and a student learns from them too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowersweep.__main__ import main
from flowersweep.config.schema import Tracking
from flowersweep.tracking import registry
from tests.conftest import TINY

WORDS = [*TINY, "train.min_head_steps=200"]
PROMOTED = ["promotion.seeds=2", "promotion.top=1", "progress=false"]


@pytest.mark.slow
def test_a_champion_that_has_not_seen_val_labels_test_for_a_student_whose_card_says_so(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["+sweep=quick", *WORDS, "sweep.n_trials=1", "study=teacher"]) == 0
    assert main(["promote", "study=teacher", *PROMOTED]) == 0
    assert main(["predict", "format=pseudo_labels", "version=1", "progress=false"]) == 1
    assert "its labels would carry those of val into train" in capsys.readouterr().err
    assert main(["predict", "format=pseudo_labels", "alias=champion", "progress=false"]) == 0
    labels = json.loads(Path("pseudo_labels.json").read_text())
    champion = registry.holder(Tracking(), Path("mlruns"))
    assert champion is not None
    assert labels["model"]["run"] == registry.evidence_run(champion) != champion.run_id
    assert len(labels["images"]) == 10

    student = ["data.pseudo_labels=pseudo_labels.json", "train.pseudo_threshold=0.2", *WORDS]
    searched = '+sweep.space.sure={path: train.pseudo_threshold, values: "interval(0.2, 0.5)"}'
    sweep = ["+sweep=quick", searched, *student, "study=student"]
    assert main([*sweep, "sweep.n_trials=1"]) == 0
    assert main([*sweep, "sweep.n_trials=2"]) == 0
    page = Path("mlruns/studies/student/report.html").read_text(encoding="utf-8")
    assert "by the model of run" in page
    assert "which was trained on train alone and calibrated on tune" in page
    code = main(["promote", "study=student", *PROMOTED])
    alias = {0: "champion", 3: "challenger"}[code]
    version = registry.holder(Tracking(), Path("mlruns"), alias)
    assert version is not None
    facts = registry.model_metadata(Tracking(), Path("mlruns"), run=str(version.run_id))
    assert 0 < facts["pseudo_labels"]["images"] <= 10
    assert "images trained on by pseudo-labels: " in str(version.description)
    Path("pseudo_labels.json").unlink()
    assert main(["predict", f"alias={alias}", "progress=false"]) == 0  # which needs them no more
