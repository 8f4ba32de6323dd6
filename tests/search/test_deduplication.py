"""Configurations that are the same training are known as such, and a sweep does what it was told
about repeats, killed or not.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from flowersweep.config.compose import compose_unchecked
from flowersweep.config.schema import AUGMENT_RANGES, MIXING_SHAPES
from flowersweep.study.journal import Journal
from flowersweep.study.records import read_study
from flowersweep.training.identity import LATER, NEWER_KEYS, canonical, identity
from flowersweep.workflows.sweep import SweepResult, run_sweep
from tests.conftest import TINY
from tests.events import lines

TUNED = ("train=finetune", "augment=light")
SAME = [
    (("loss=focal", "loss.gamma=0", "loss.label_smoothing=0.1"), ("loss=smoothed_cross_entropy",)),
    (("schedule.warmup=0", "schedule.warmup_start_factor=0.3"), ("schedule.warmup=0.0",)),
    (("schedule.final_factor=1", "schedule.half_life=0.3"), ("schedule.final_factor=1",)),
    (("augment=strong",), ("augment=none",)),  # over cached features nothing is augmented
    (("train.backbone_lr_multiplier=0.1", "train.head_epochs=2"), ()),
    (("data.dir=elsewhere", "data.cache_bytes=0"), ()),
    (("train.checkpoint_interval_s=1", "study=other", "sweep.n_trials=3", "dir=there"), ()),
    ((*TUNED, "augment.mixup_alpha=0.7", "augment.cutmix_share=0.1"), TUNED),
    (
        (
            *TUNED,
            "augment.mix_probability=0.5",
            "augment.cutmix_share=1",
            "augment.mixup_alpha=0.7",
        ),
        (*TUNED, "augment.mix_probability=0.5", "augment.cutmix_share=1"),
    ),
    (
        (
            *TUNED,
            "augment.mix_probability=0.5",
            "augment.cutmix_share=0",
            "augment.cutmix_alpha=0.7",
        ),
        (*TUNED, "augment.mix_probability=0.5", "augment.cutmix_share=0"),
    ),
    (
        (*TUNED, "train.head_epochs=0", "train.head_learning_rate=1"),
        (*TUNED, "train.head_epochs=0"),
    ),
    ((*TUNED, "train.frozen_share=1", "train.layer_decay=0.5"), (*TUNED, "train.frozen_share=1")),
    (("train.layer_decay=0.5", "train.frozen_share=0.5", "train.epochs_after_augment=2"), ()),
    (
        ("train=finetune", "augment=none", "train.epochs_after_augment=1"),
        ("train=finetune", "augment=none"),
    ),
    (  # never augmented
        (*TUNED, "train.epochs_before_augment=1", "train.epochs_after_augment=2"),
        ("train=finetune", "augment=none"),
    ),
    (
        ("optimizer=sgd", "optimizer.momentum=0"),
        ("optimizer=sgd", "optimizer.momentum=0.0", "optimizer.nesterov=false"),
    ),
]
OTHER = [
    (("loss=focal", "loss.label_smoothing=0.1"), ("loss=focal",)),  # our focal loss smooths too
    (("loss=focal",), ("loss=smoothed_cross_entropy",)),
    (("schedule.warmup_start_factor=0.3",), ()),
    (("schedule=constant",), ("schedule=cosine",)),
    (("train.ema_half_life=0.1",), ()),
    (("model.dropout=0.1",), ()),
    (("seed=1",), ()),
    ((*TUNED, "augment.mix_probability=0.1"), TUNED),
    ((*TUNED, "train.backbone_lr_multiplier=0.1"), TUNED),
    (
        (*TUNED, "augment.mixup_alpha=0.7", "augment.mix_probability=0.5"),
        (*TUNED, "augment.mix_probability=0.5"),
    ),
    (("train.learning_rate=0.1",), ()),
    (("train.min_class_images=20",), ()),
    *(
        ((*TUNED, word), TUNED)
        for word in (
            "train.layer_decay=0.5",
            "train.frozen_share=0.5",
            "train.epochs_before_augment=1",
            "train.epochs_after_augment=1",
            *(f"augment.{strength}=0.3" for strength in LATER),
        )
    ),
]


@pytest.mark.parametrize(("one", "another"), SAME)
def test_what_does_not_count_makes_no_other_training(
    one: tuple[str, ...], another: tuple[str, ...]
) -> None:
    assert compose_unchecked(one) != compose_unchecked(another)
    assert identity(compose_unchecked(one), 1) == identity(compose_unchecked(another), 1)


@pytest.mark.parametrize(("one", "another"), OTHER)
def test_what_counts_makes_another_training(one: tuple[str, ...], another: tuple[str, ...]) -> None:
    assert identity(compose_unchecked(one), 1) != identity(compose_unchecked(another), 1)


@pytest.mark.parametrize("words", [(), TUNED, ("train=finetune", "augment=strong")])
def test_keys_that_a_study_does_not_know_yet_do_not_count_at_their_defaults(
    words: tuple[str, ...],
) -> None:
    """Trials of a study from before there were such keys are known as the same."""
    resolved = {"data.folds", "runtime.precision"}  # by the trainer, which knows images and devices
    newer = NEWER_KEYS.keys() - resolved
    assert not newer & canonical(compose_unchecked(words), 1).keys()


def test_augmentation_at_no_strength_is_none() -> None:
    from flowersweep.training.identity import STRENGTHS

    words = ("train=finetune", "augment=published")
    zero = (*words, *(f"augment.{strength}=0" for strength in STRENGTHS))
    assert (
        identity(compose_unchecked(zero), 1)
        == identity(compose_unchecked(("train=finetune", "augment=none")), 1)
        != identity(compose_unchecked(words), 1)
    )


def test_every_argument_of_the_augmentation_has_a_range() -> None:
    """Which also says whether it counts: a strength above 0 is another training."""
    from flowersweep.training.augment import augment

    own = [*inspect.signature(augment).parameters][3:]  # after key, images and targets
    assert {*own} == {*AUGMENT_RANGES}
    assert {*MIXING_SHAPES} < {*own}


@pytest.mark.parametrize("strength", sorted(AUGMENT_RANGES.keys() - {*MIXING_SHAPES}))
def test_one_strength_alone_is_another_training_than_none(strength: str) -> None:
    zero = [f"augment.{each}=0" for each in AUGMENT_RANGES if each not in MIXING_SHAPES]
    none = ("train=finetune", "augment=published", *zero)
    alone = (*none, f"augment.{strength}=0.3")
    assert identity(compose_unchecked(alone), 1) != identity(compose_unchecked(none), 1)


def test_how_the_rate_grows_with_replicas_counts_only_if_there_are_some() -> None:
    plain, scaled = (
        compose_unchecked(("train.lr_scaling=none",)),
        compose_unchecked(("train.lr_scaling=linear",)),
    )
    assert identity(plain, 1) == identity(scaled, 1)
    assert identity(plain, 8) != identity(scaled, 8)


def test_of_a_users_own_callable_everything_counts() -> None:
    own = ("schedule._target_=mine.schedule", "schedule.warmup=0")
    assert identity(compose_unchecked((*own, "schedule.warmup_start_factor=0.3")), 1) != identity(
        compose_unchecked(own), 1
    )


WORDS = [
    "+sweep=quick",
    "sampler=random",
    "sweep.n_trials=6",
    "sweep.space.learning_rate.values='choice(0.001,0.01)'",
    "+sweep.space.scaling={path: train.lr_scaling, values: 'choice(none, linear)'}",
    "tracking.enabled=false",
    *TINY,
]


def run(*words: str) -> SweepResult:
    line = (*WORDS, *words)
    return run_sweep(compose_unchecked(line), line)


def told(project: Path, name: str) -> list[dict[str, Any]]:
    """What the journal says of the trials, without when."""
    events = lines(project / "mlruns" / "studies" / name)
    for event in events:
        for each in [event, *event.get("epochs", [])]:
            each.pop("time")
        event.pop("elapsed")
    return [
        event
        for event in events
        if event["event"] in ("trial_asked", "epochs_reported", "trial_ended")
    ]


class Killed(BaseException):
    """A process that dies before it can write."""


@pytest.mark.slow
@pytest.mark.parametrize("repeats", ["new_seed", "reuse"])
def test_a_repeat_is_treated_as_asked_and_the_same_after_any_kill(
    repeats: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run(f"sweep.on_duplicate={repeats}", "study=whole")
    again = [record for record in outcome.trials if record.repeats is not None]
    # two rates; how they scale does not count on one device
    assert len(outcome.trials) - len(again) == 2
    for record in again:
        first = outcome.trials[record.repeats or 0]
        assert first.params["learning_rate"] == record.params["learning_rate"]
        assert first.repeats is None
        assert (record.value == first.value) == (repeats == "reuse")
        assert (record.reports == first.reports) == (repeats == "reuse")
    folded = read_study(project / "mlruns" / "studies" / "whole").trials
    assert [(each.reports, each.seed) for each in folded] == [
        (each.reports, each.seed) for each in outcome.trials
    ]
    seeds = [record.seed for record in again]
    assert seeds == [None] * 4 if repeats == "reuse" else len({*seeds, None}) == 5

    whole, write = told(project, "whole"), Journal._write
    for last in range(2, 40, 3):  # dies at every third event of what is left
        written = 0

        def dying(self: Journal, line: bytes, last: int = last) -> None:
            nonlocal written
            written += 1
            if written >= last:
                raise Killed
            write(self, line)

        monkeypatch.setattr(Journal, "_write", dying)
        try:
            run(f"sweep.on_duplicate={repeats}", "study=killed")
        except Killed:
            continue
        break
    assert told(project, "killed") == whole
    assert last > 2
