"""What the page says of a study is what its journal and its logits hold."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from flowersweep.__main__ import overrides
from flowersweep.config.compose import compose
from flowersweep.config.paths import flatten
from flowersweep.errors import StudyError
from flowersweep.report.study_view import StudyView, load_study
from flowersweep.report.summary import (
    StudySummary,
    class_names,
    confused_pairs,
    score_classes,
    summarise,
    train_command,
    worst_mistakes,
)
from flowersweep.study.records import best_record
from tests.report.made_up import CLASSES, IMAGES, MadeUp, Play, focal, of_all_kinds, smoothed


def test_trials_are_told_by_how_they_ended(study: StudyView) -> None:
    assert [r.state for r in study.records] == [
        "complete",
        "pruned",
        "failed",
        "complete",
        "complete",
        "running",
    ]
    assert [r.number for r in study.complete] == [3, 0, 4]
    assert study.best is not None
    assert study.best.number == 3
    assert study.curves[0] == {1: 0.9, 2: 0.5, 3: 0.31}


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    folder = of_all_kinds().write(tmp_path)
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"event":"trial_ended","trial":5,"sta')
    assert len(load_study(folder).records) == 6
    (folder / "journal.jsonl").write_text("")
    with pytest.raises(StudyError, match="no study"):
        load_study(folder)


def test_pauses_are_no_running_time(tmp_path: Path) -> None:
    plays = [Play(smoothed(0.1, 0.01), 0.5 - 0.1 * n) for n in range(3)]
    study = load_study(MadeUp(plays, pauses={2: 3600.0}, wanted=3).write(tmp_path))
    assert [(span.start, span.end) for span in study.spans.values()] == [(0, 9), (10, 19), (19, 28)]
    assert study.record.resumed_at == [19]


def test_the_command_of_the_best_trial_composes_to_its_configuration(
    study: StudyView, project: Path
) -> None:
    told = train_command(study)
    assert told is not None
    words = shlex.split(told)
    assert words[:4] == ["python", "-m", "flowersweep", "train"]
    leaves = dict(flatten(compose(overrides(words[3:]))))
    wanted = {
        "loss.name": "smoothed_cross_entropy",
        "loss.label_smoothing": 0.12,
        "train.learning_rate": 0.012,
        "verb.name": "train",
    }
    assert {path: leaves[path] for path in wanted} == wanted


def test_the_command_keeps_words_with_spaces_drops_the_sweeps_own_and_masks_secrets(
    tmp_path: Path,
) -> None:
    fetch = "data.fetch={_target_: synthetic, classes: 5}"
    words = [
        "+sweep=smoothing",
        "study=mine",
        "sweep.n_trials=30",
        "sampler=random",
        "executor=ray",
        "executor.address=auto",
        "sweep.workers=4",
        fetch,
        "tracking.uri=http://me:secret@host",
    ]
    begun = shlex.join(["python", "-m", "flowersweep", *words])
    study = load_study(MadeUp([Play(smoothed(0.1, 0.01), 0.3)], command=begun).write(tmp_path))
    told = train_command(study)
    assert told is not None
    assert "secret" not in told
    kept = shlex.split(told)
    assert fetch in kept
    assert not [word for word in kept if re.match("study|sweep|sampler|executor", word)]


def test_scores_of_both_halves_come_from_the_logits(found: StudySummary) -> None:
    kept = found.study.predictions(3)
    assert kept is not None
    scores = {score.name: score for score in found.scores}
    assert scores["accuracy"].holdout == np.mean(kept.holdout.argmax(axis=1) == kept.holdout_labels)
    assert scores["accuracy"].tune == np.mean(kept.tune.argmax(axis=1) == kept.tune_labels)
    assert 0.01 < scores["accuracy"].error < 0.06


def test_confused_pairs_add_up_to_the_mistakes(found: StudySummary) -> None:
    kept = found.study.predictions(3)
    assert kept is not None
    mistakes = int(np.sum(kept.holdout.argmax(axis=1) != kept.holdout_labels))
    names = class_names(found.study.started.provenance, kept)
    pairs, classes = confused_pairs(kept, names), score_classes(kept, names)
    assert sum(pair.count for pair in pairs) == mistakes > 0
    assert [pair.count for pair in pairs] == sorted((pair.count for pair in pairs), reverse=True)
    assert all(pair.true != pair.taken_for for pair in pairs)
    assert {row.name for row in classes} == {"rose", "iris", "lily", "daisy"}
    assert sum(row.support for row in classes) == IMAGES
    assert [row.f1 for row in classes] == sorted(row.f1 for row in classes)


def test_the_claim_names_the_best_trial_its_interval_and_of_how_many_it_was_picked(
    found: StudySummary,
) -> None:
    assert re.search(
        rf"trial 3, macro F1 0\.\d+ on {IMAGES} held-out images "
        r"\(95 % interval .*picked from 6 trials",
        found.claim,
    )


def test_classes_without_names_are_numbered(tmp_path: Path) -> None:
    study = load_study(of_all_kinds(classes=("only", "two")).write(tmp_path))
    predicted = study.predictions(3)
    assert predicted is not None
    assert class_names(study.started.provenance, predicted) == [str(n) for n in range(CLASSES)]


@pytest.mark.parametrize(
    "plays",
    [
        [],
        [Play(smoothed(0.1, 0.01), None, None, curve=(0.9,))],
        [Play(focal(1, 0.01), None, "failed", reason="out of memory")],
        [Play(focal(1, 0.01), 0.7, "pruned", curve=(0.7,))],
        [Play(smoothed(0.1, 0.01), 0.3)],  # its logits are gone
    ],
    ids=["no trial", "one running", "one failed", "one pruned", "no logits"],
)
def test_there_are_facts_of_a_study_that_has_little(plays: list[Play], tmp_path: Path) -> None:
    found = summarise(load_study(MadeUp(plays).write(tmp_path)))
    assert found.scores == found.importances == []
    assert worst_mistakes(found.study) == ([] if found.study.best else "no trial was completed")
    assert found.claim
    assert [finding.title for finding in found.audit_items if "Picked from" in finding.title]


def test_facts_of_a_maximised_objective_turn_around(tmp_path: Path) -> None:
    plays = [Play(smoothed(0.1, 0.01), value, skill=value * 3) for value in (0.5, 0.9, 0.7)]
    found = summarise(load_study(MadeUp(plays, objective="tune/macro_f1").write(tmp_path)))
    assert [r.number for r in found.study.complete] == [1, 2, 0]
    assert found.differences[0].value > 0


def test_with_several_objectives_a_tie_is_decided_as_the_sweep_does(tmp_path: Path) -> None:
    folder = MadeUp(
        [Play(smoothed(0.1, 0.01), 0.9), Play(smoothed(0.2, 0.01), 0.9)], objective="tune/macro_f1"
    ).write(tmp_path)
    study = load_study(folder)
    study.started.config["sweep"]["objectives"] = ["tune/macro_f1", "time"]
    for record, seconds in zip(study.records, (20.0, 10.0), strict=True):
        record.metrics["time"] = seconds
    swept = best_record(study.records, "tune/macro_f1", "time")
    assert study.best is swept is study.records[1]
